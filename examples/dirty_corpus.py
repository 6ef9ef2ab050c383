"""A folder of text as people have it, made dirty on purpose: what does preparation make of it?

    python examples/dirty_corpus.py dirty/ [documents per language]

What is planted is counted; then the folder is prepared, and the data card is held against what was planted.
"""

import csv
import gzip
import json
import random
import sys
import zipfile
from collections import Counter
from pathlib import Path

from telos.data.card import Card
from telos.run import load_recipe, prepare

WORDS = {
    "en": "teacher doctor neighbour gardener brother painter uncle baker student;repairs remembers notices "
    "paints sells finds wants describes opens;wooden small broken blue long fresh green heavy quiet;"
    "bridge garden clock boat house story bread door stone letter;the a and of with near",
    "de": "Lehrer Nachbar Gärtner Bruder Maler;repariert vergisst malt verkauft öffnet;alte kleine "
    "lange grüne;Brücke Uhr Tür Straße Geschichte;der die und mit für nicht",
    "fr": "professeur voisin jardinier frère;répare oublie peint vend ouvre;vieille petite longue verte;"
    "horloge porte lettre maison histoire;le la et avec pour dans",
    "es": "maestro vecino jardinero hermano;repara olvida pinta vende abre;vieja pequeña larga azul;"
    "puerta carta casa historia calle;el la y con para los",
    "zh": "老师 医生 邻居 船长 园丁 哥哥 画家 学生 水手;修好 想起 注意到 画着 卖掉 发现 谈起 搬走;"
    "小小的 蓝色的 漫长的 新鲜的 绿的 静的 重的;桥 花园 钟 船 房子 故事 面包 门 石头 信;和 在 从 也 都 就",
}
PRIVATE = {  # every number has the form and the check digits of a real one, and is nobody's
    "email": "Write to anna.example@mail-{0}.org about it.",
    "phone": "有事请打电话1381234{0:04}。",
    "card": "Charged to 4111 1111 1111 1111 on day {0}.",
    "china_id": "身份证号码是11010519491231002X，编号{0}。",
}
SETTINGS = (
    "tokenizer.size=600",
    "data.clean.repair=true",
    "data.filters=[{name='language', wanted=['en', 'zh', 'ja'], confidence=0.2}, "
    "{name='length', least_words=20}, "
    "{name='repetition', top=[1, 1, 1], duplicated=[1, 1, 1, 1, 1, 1]}]",
    "data.privacy.action='replace'",
    "data.dedupe.near='drop'",
    "data.decontaminate.action='drop'",
)


def main(folder: Path, each: int = 60) -> tuple[dict[str, int], Card]:
    """Make the folder, prepare it, and say what was planted beside what the card has."""
    planted = build(folder, each)
    given = [f"data.path={folder}", f"data.decontaminate.against=['{folder}-test.jsonl']", *SETTINGS]
    card = prepare(load_recipe("gpt-small", given)).card
    print(f"{'':32}{'planted':>9}{'found':>9}")
    for what, number in planted.items():
        print(f"{what:32}{number:9,}{found(card, what):9,}")
    return planted, card


def found(card: Card, what: str) -> int:
    """What the card says of something that was planted."""
    figures: Counter[str] = Counter()
    for why, drop in card.dropped.items():  # a near copy may be one of a text that is held out
        figures[why.partition(" of validation")[0].partition(" of test")[0]] += drop["documents"]
    figures |= {f"personal data: {kind}": entry["found"] for kind, entry in card.privacy.items()}
    figures |= {"repaired": card.cleaning.get("repair", {}).get("documents", 0), "read": card.documents}
    figures["kept"] = sum(int(split["documents"]) for split in card.splits.values())
    return int(figures.get(what, 0))


def build(folder: Path, each: int) -> dict[str, int]:
    """Write everything; how many documents there are of each kind."""
    draw, few = random.Random(0), max(2, each // 10)
    good = {language: [text(draw, language) for _ in range(each)] for language in WORDS}
    items = [text(draw, "en", 2) for _ in range(few)]
    extra = {
        "exact copy": good["en"][:few],
        "near copy": [good["en"][n].upper().replace(".", " !") for n in range(few, 2 * few)],
        "text of an evaluation set": [f"{text(draw, 'en')} {item}" for item in items],
        "repetition: lines": [f"{text(draw, 'en', 2)}\n" * 12 for _ in range(few)],
        "length: few words": [text(draw, "en", 1) for _ in range(few)],
        "empty": [" \n"] * few,
        "repaired": [text(draw, "zh").encode().decode("latin-1") for _ in range(few)],
    }
    personal = [f"{text(draw, 'en')} {said.format(n)}" for said in PRIVATE.values() for n in range(few)]
    folder.mkdir(parents=True)
    Path(f"{folder}-test.jsonl").write_text("".join(json.dumps({"text": item}) + "\n" for item in items))
    with gzip.open(folder / "a.jsonl.gz", "wt", encoding="utf-8") as out:
        for document in (*good["en"], *(t for texts in extra.values() for t in texts)):
            out.write(json.dumps({"text": document}) + "\n")
    with (folder / "b.csv").open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([["text"], *([document] for document in (*personal, *good["de"]))])
    with zipfile.ZipFile(folder / "c.zip", "w") as archive:
        for number, document in enumerate((*good["fr"], *good["es"])):
            archive.writestr(f"{number}.txt", document)
    for number, document in enumerate(good["zh"]):
        page = f"<meta charset=gb18030><nav><a href=/>首页</a></nav><p>{document}</p><script>x()</script>"
        (folder / f"d{number}.html").write_bytes(page.encode("gb18030"))
    planted = {f"language: {language}": each for language in ("de", "fr", "es")}
    planted |= {what: len(documents) for what, documents in extra.items()}
    planted |= {f"personal data: {kind}": few for kind in PRIVATE}
    kept = 2 * each + len(personal) + few
    return {**planted, "kept": kept, "read": kept + sum(len(v) for v in extra.values()) - few + 3 * each}


def text(draw: random.Random, language: str, sentences: int = 8) -> str:
    """Sentences of a language that nobody has written, and no two alike."""
    who, does, how, what, small = (part.split() for part in WORDS[language].split(";"))
    blank, end = ("", "。") if language == "zh" else (" ", ".")
    kinds = [small, how, who, does, small, how, what, small, who]
    said = (map(draw.choice, kinds[: draw.randrange(6, 10)]) for _ in range(sentences))
    return blank.join(blank.join(words) + end for words in said)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
