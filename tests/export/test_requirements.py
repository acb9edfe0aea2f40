import pytest

from drc_deploy.errors import MissingDependencyError
from drc_deploy.export.requirements import PACKAGES, require_packages


@pytest.mark.parametrize("absent", PACKAGES)
def test_a_missing_package_is_named_with_the_way_to_install_it(absent: str) -> None:
    with pytest.raises(MissingDependencyError, match=f"needs {absent},") as caught:
        require_packages(lambda name: name != absent)
    assert "drc-deploy[export]" in caught.value.hint


def test_an_installation_with_all_packages_passes() -> None:
    require_packages()
