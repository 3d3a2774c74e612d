"""What the documentation's site (mkdocs.yml) has beside the pages of docs/."""
