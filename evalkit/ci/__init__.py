"""What a run leaves for machines and for the pages of a CI service: JSON, JUnit's XML, Markdown."""
