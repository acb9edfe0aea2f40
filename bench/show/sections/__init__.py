"""The sections of the report page, each as HTML text."""
