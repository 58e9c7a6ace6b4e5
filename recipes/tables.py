"""Print the results of a comparison as Markdown tables.

python recipes/tables.py runs/compare_reviews/results.json
"""

import json
import sys
from pathlib import Path

from nlp_meta.report.page import to_markdown

if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(to_markdown(json.loads(Path(name).read_text(encoding="utf-8"))))
