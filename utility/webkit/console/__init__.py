"""What all pages of the console share: templates, static files, navigation, plots."""
