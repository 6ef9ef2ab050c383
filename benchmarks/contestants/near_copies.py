"""Finds the near copies among the texts of a file, by one of several programs: run by `near_duplicates.py`.

    python near_copies.py CONTESTANT TEXTS.json FOLDER BANDS ROWS THRESHOLD

Texts are in memory when the clock starts, and it stops with a cluster for each. Signatures go to FOLDER, as
they would for more texts than fit in memory. The last line of what it prints is the result, as JSON.
"""

import json
import os
import re
import struct
import sys
import time
from pathlib import Path
from typing import Any

Result = tuple[list[int], float]
"""The cluster of each text, and the processor seconds up to the end of the signatures."""


def telos(texts: list[str], folder: Path, bands: int, rows: int, threshold: float) -> Result:
    """128 bins; candidates are compared."""
    import numpy as np

    from telos.data import near

    begin = time.process_time()
    kept = np.memmap(folder / "signatures", np.uint32, "w+", shape=(len(texts), near.BINS))
    for at in range(0, len(texts), 1000):
        kept[at : at + 1000] = near.signatures(texts[at : at + 1000])
    signed = time.process_time() - begin
    return near.clusters(kept, threshold, near.Banding(bands, rows)).tolist(), signed


def datatrove(texts: list[str], folder: Path, bands: int, rows: int, threshold: float) -> Result:
    """Signatures, buckets, clusters, as its examples put them together; candidates are not compared."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig

    begin = time.process_time()
    config = MinhashConfig(n_grams=5, num_buckets=bands, hashes_per_bucket=rows)
    signatures, buckets, found = (str(folder / name) for name in ("signatures", "buckets", "found"))
    documents = (Document(text=text, id=str(i)) for i, text in enumerate(texts))
    MinhashDedupSignature(signatures, config=config, language="eng").run(documents)
    signed = time.process_time() - begin
    for rank in range(bands):
        MinhashDedupBuckets(signatures, buckets, config=config).run(rank=rank, world_size=bands)
    MinhashDedupCluster(buckets, found, config=config, save_cluster_id=True).run()
    clusters = list(range(len(texts)))
    first: dict[int, int] = {}
    for path in Path(found).glob("*.clusters"):
        for text, cluster in struct.iter_unpack("<2I", path.read_bytes()):
            clusters[text] = first.setdefault(cluster, text)
    return clusters, signed


def datasketch(texts: list[str], folder: Path, bands: int, rows: int, threshold: float) -> Result:
    """MinHash by permutations, and its index in memory; candidates are compared."""
    from datasketch import MinHash, MinHashLSH

    begin = time.process_time()
    signatures = []
    for text in texts:
        words = re.findall(r"\w+", text.lower())
        shingles = {" ".join(words[i : i + 5]).encode() for i in range(max(1, len(words) - 4))}
        signature = MinHash(num_perm=bands * rows)
        signature.update_batch(list(shingles))
        signatures.append(signature)
    signed = time.process_time() - begin
    index = MinHashLSH(num_perm=bands * rows, params=(bands, rows))
    clusters = list(range(len(texts)))
    for i, signature in enumerate(signatures):
        near = [j for j in index.query(signature) if signature.jaccard(signatures[j]) >= threshold]
        index.insert(i, signature)
        for j in near:
            old, new = sorted((clusters[i], clusters[j]), reverse=True)
            if old != new:
                clusters = [new if cluster == old else cluster for cluster in clusters]
    return clusters, signed


def warm(contestant: Any, folder: Path) -> None:
    """Imports, tables and models are loaded before the clock starts."""
    (folder / "warm").mkdir()
    contestant(["some words to begin with", "and some other words"], folder / "warm", 2, 2, 0.5)


def main() -> None:
    """Read, run, print."""
    name, path, place, bands, rows, threshold = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    contestant = {"telos": telos, "datatrove": datatrove, "datasketch": datasketch}[name]
    folder, texts = Path(place), json.loads(Path(path).read_text(encoding="utf-8"))
    warm(contestant, folder)
    begin, wall = time.process_time(), time.perf_counter()
    clusters, signed = contestant(texts, folder, int(bands), int(rows), float(threshold))
    seconds = time.process_time() - begin
    told = {
        "clusters": clusters,
        "processor_seconds": seconds,
        "signature_seconds": signed,
        "wall_seconds": time.perf_counter() - wall,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
