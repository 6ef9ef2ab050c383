"""The whole of preparation by one of several programs: run by `pipeline.py`.

    python whole_pipeline.py CONTESTANT FOLDER WORK

Processor seconds of all but tokens (`prepare`), of tokens (`tokenise`), and how many documents there were and
stay. The last line of what it prints is that, as JSON.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any


def telos(folder: Path, work: Path) -> dict[str, Any]:
    """`telos.data.prepare` in one process; its stages tell when the tokens begin."""
    from telos.config import read
    from telos.data.prepare import prepare
    from telos.data.settings import DataSettings
    from telos.tokenizer import TokenizerSettings

    given = {
        "path": str(folder / "pages.jsonl"),
        "filters": ["repetition", "symbols", "stop_words", "length"],
        "privacy": {"action": "replace", "kinds": ["email", "ip"]},
        "dedupe": {"near": "drop"},
        "engine": {"workers": 1},
    }
    seen: dict[str, float] = {}
    begin = time.process_time()
    ready = prepare(
        read(DataSettings, given),
        TokenizerSettings(path=folder / "tokenizer.json"),
        work,
        progress=lambda stage, done, total: seen.setdefault(stage, time.process_time()),
    )
    end = time.process_time()
    tokens = end - seen["learning the vocabulary"]
    kept = sum(int(split["documents"]) for split in ready.card.splits.values())
    return {"prepare": end - begin - tokens, "tokenise": tokens, "kept": kept, "read": ready.card.documents}


def datatrove(folder: Path, work: Path) -> dict[str, Any]:
    """Its blocks in one task, as its examples put them together."""
    from datatrove.pipeline.dedup import (
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.dedup.minhash import MinhashConfig
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.formatters import PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer
    from datatrove.pipeline.writers import JsonlWriter

    def through(*blocks: Any) -> None:
        data: Any = None
        for block in blocks:
            data = block(data, rank=0, world_size=1) if callable(block) else block.run(data)
        for _ in data or ():
            pass

    (work / "in").mkdir()
    (work / "in" / "pages.jsonl").symlink_to(folder / "pages.jsonl")
    kept, signatures, buckets, removed, clean = (
        str(work / name) for name in ("kept", "signatures", "buckets", "removed", "clean")
    )
    config = MinhashConfig(n_grams=5, num_buckets=32, hashes_per_bucket=4)
    begin = time.process_time()
    through(
        JsonlReader(str(work / "in")),
        GopherRepetitionFilter(),
        GopherQualityFilter(),
        PIIFormatter(),
        JsonlWriter(kept, compression=None),
    )
    through(JsonlReader(kept), MinhashDedupSignature(signatures, config=config, language="eng"))
    for rank in range(32):
        MinhashDedupBuckets(signatures, buckets, config=config).run(rank=rank, world_size=32)
    MinhashDedupCluster(buckets, removed, config=config).run()
    through(JsonlReader(kept), MinhashDedupFilter(removed), JsonlWriter(clean, compression=None))
    middle = time.process_time()
    through(
        JsonlReader(clean),
        DocumentTokenizer(
            str(work / "tokens"),
            tokenizer_name_or_path=str(folder / "tokenizer.json"),
            shuffle_documents=False,
        ),
    )
    end = time.process_time()
    lines = sum(1 for path in Path(clean).rglob("*.jsonl") for _ in path.open("rb"))
    read = sum(1 for _ in (folder / "pages.jsonl").open("rb"))
    return {"prepare": middle - begin, "tokenise": end - middle, "kept": lines, "read": read}


if __name__ == "__main__":
    name, folder, work = sys.argv[1:]
    print(json.dumps({"telos": telos, "datatrove": datatrove}[name](Path(folder), Path(work))))
