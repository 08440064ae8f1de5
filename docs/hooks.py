"""Bring onto the site what stands outside of docs/: the README as its home, the changelog, the notebooks."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).parent.parent
PAGES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md"}


def on_files(files, config):
    """Add pages that are made of files elsewhere in the repository."""
    for notebook in sorted(ROOT.glob("notebooks/*.ipynb")):
        files.append(File.generated(config, f"notebooks/{notebook.name}", abs_src_path=str(notebook)))
    for page, source in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown, page, **_):
    """Point links at pages of the site; in the repository they point at files."""
    markdown = markdown.replace("](../notebooks/", "](notebooks/")
    if page.file.src_uri in PAGES:
        markdown = markdown.replace("](docs/", "](")
        for name, source in PAGES.items():
            markdown = markdown.replace(f"]({source})", f"]({name})")
        markdown = re.sub(r"\[([^]]+)\]\((?:CITATION\.cff|LICENSE|SECURITY\.md|\.github/[^)]*)\)", r"\1", markdown)
    return markdown
