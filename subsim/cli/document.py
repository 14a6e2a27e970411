"""One HTML document that loads nothing: its style and scripts are inside, and its policy names them by their hashes."""

import base64
import hashlib
import html
from pathlib import Path
from string import Template

from subsim.cli.markup import Html

ASSETS = Path(__file__).resolve().parent / "assets"
DOCUMENT = Template("""\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="$policy">
<title>$title</title>
<style>$style</style>
</head>
<body>
$body
$scripts
</body>
</html>
""")


def document(title: str, body: Html, *, plots: bool) -> str:
    """The document with this title and body; it holds the plotting library only where there are `plots`."""
    style, scripts = _text("page.css"), [library()] if plots else []
    scripts.append(_text("page.js"))
    policy = "; ".join(
        [
            "default-src 'none'",
            "img-src data:",
            f"style-src {_hash(style)}",
            f"script-src {' '.join(map(_hash, scripts))}",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )
    return DOCUMENT.substitute(
        policy=policy,
        title=html.escape(title),
        style=style,
        body=body,
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def library() -> str:
    """The plotting library behind its licence, without the line that names a file which is not here."""
    code = "\n".join(line for line in _text("chart.umd.min.js").splitlines() if not line.startswith("//# source"))
    return f"/*!\n{_text('chart.LICENSE')}*/\n{code}\n"


def _text(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The source of a policy that admits this text and no other."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
