"""`python -m tests.openapi_document`: print the API's document, as `/openapi.json` serves it."""

from __future__ import annotations

import json
import sys

from tests.fixtures.api import document

if __name__ == "__main__":
    json.dump(document(), sys.stdout)
