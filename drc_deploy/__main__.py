"""``python -m drc_deploy``: the command line."""

from drc_deploy.cli.main import main

if __name__ == "__main__":
    main()
