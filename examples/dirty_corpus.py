"""A folder of text as people have it, made dirty on purpose: what does preparation make of it?

    python examples/dirty_corpus.py dirty/ [documents per language]

Copies, near copies, wrong encodings, web pages, five languages, personal data and items of a test set are
planted and counted. Then the folder is prepared, and the data card is held against what was planted.
"""

import csv
import gzip
import json
import random
import sys
import zipfile
from pathlib import Path

from telos.data.card import Card
from telos.run import load_recipe, prepare

WORDS = {
    "en": "the old teacher|a young doctor|our neighbour|the captain|every gardener|her brother|the painter|"
    "my uncle|the baker|that student;carefully repaired|often remembered|never noticed|slowly painted|gladly "
    "sold|suddenly found|quietly carried|still wanted|always described|finally opened;the wooden bridge|a small "
    "garden|the broken clock|his father's letter|the blue boat|an empty house|the long story|fresh bread|the "
    "green door|a heavy stone;near the river|in the early morning|before the winter came|behind the church|with "
    "great pleasure|for the whole village|after a long journey|under the apple trees|on market days|without a word",
    "zh": "老教师|年轻的医生|我们的邻居|船长|每个园丁|她的哥哥|画家|我的叔叔|面包师|那个学生;小心地修好了|常常想起|从来没有注意到|慢慢地画着|高兴地卖掉了|"
    "忽然发现了|悄悄地搬走了|仍然想要|总是谈起|终于打开了;那座木桥|一个小花园|坏了的钟|父亲写的信|蓝色的小船|空房子|漫长的故事|新鲜的面包|绿色的门|沉重的石头;在河边|"
    "在清晨的时候|在冬天到来之前|在学校后面|带着很大的快乐|为了整个村子|在长途旅行之后|在苹果树下|在赶集的日子里|一句话也没有说",
    "de": "der alte Lehrer|die junge Ärztin|unser Nachbar|der Kapitän|jeder Gärtner;reparierte sorgfältig|vergaß "
    "niemals|malte langsam|verkaufte gern|öffnete endlich;die hölzerne Brücke|einen kleinen Garten|die alte Uhr|"
    "den langen Brief|das blaue Boot;am Fluss|am frühen Morgen|vor dem Winter|hinter der Kirche|mit großer Freude",
    "fr": "le vieux professeur|la jeune femme|notre voisin|le capitaine|chaque jardinier;a réparé avec soin|n'a "
    "jamais oublié|a peint lentement|a vendu avec plaisir|a enfin ouvert;le pont de bois|un petit jardin|la vieille "
    "horloge|la lettre de son père|le bateau bleu;près de la rivière|au petit matin|avant l'hiver|derrière l'église|"
    "avec beaucoup de joie",
    "es": "el viejo maestro|la joven doctora|nuestro vecino|el capitán|cada jardinero;reparó con cuidado|nunca "
    "olvidó|pintó despacio|vendió con gusto|por fin abrió;el puente de madera|un pequeño jardín|el viejo reloj|la "
    "carta de su padre|el barco azul;cerca del río|por la mañana temprano|antes del invierno|detrás de la iglesia|"
    "con mucha alegría",
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
    "data.filters=[{name='language', wanted=['en', 'zh']}, {name='length', least_words=20}, {name='repetition'}]",
    "data.privacy.action='replace'",
    "data.dedupe.near='drop'",
    "data.decontaminate.action='drop'",
)


def main(folder: Path, each: int = 60) -> tuple[dict[str, int], Card]:
    """Make the folder, prepare it, and say what was planted beside what the card has."""
    planted = build(folder, each)
    given = [
        f"data.path={folder}",
        f"data.decontaminate.against=['{folder}-test.jsonl']",
        "name=dirty",
        *SETTINGS,
    ]
    card = prepare(load_recipe("gpt-small", given)).card
    print(f"{'':32}{'planted':>9}{'found':>9}")
    for what, number in planted.items():
        print(f"{what:32}{number:9,}{found(card, what):9,}")
    return planted, card


def found(card: Card, what: str) -> int:
    """What the card says of something that was planted."""
    figures = {why: drop["documents"] for why, drop in card.dropped.items()}
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
        "exact copy": [draw.choice(good["en"][:few]) for _ in range(few)],
        "near copy": [good["en"][n].upper().replace(".", " !") for n in range(few, 2 * few)],
        "text of an evaluation set": [f"{text(draw, 'en')} {item}" for item in items],
        "repetition: lines": [f"{text(draw, 'en', 2)}\n" * 12 for _ in range(few)],
        "length: too few words": ["The painter found it.", "画家找到了它。"] * (few // 2),
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
        page = f"<html><meta charset=gb18030><nav><a href=/>首页</a></nav><p>{document}</p><script>x()</script></html>"
        (folder / f"d{number}.html").write_bytes(page.encode("gb18030"))
    planted = {f"language: {language}": each for language in ("de", "fr", "es")}
    planted |= {what: len(documents) for what, documents in extra.items()}
    planted |= {f"personal data: {kind}": few for kind in PRIVATE}
    kept = 2 * each + len(personal) + few
    return {**planted, "kept": kept, "read": kept + sum(len(v) for v in extra.values()) - few + 3 * each}


def text(draw: random.Random, language: str, sentences: int = 8) -> str:
    """Sentences of a language that nobody has written."""
    parts = [part.split("|") for part in WORDS[language].split(";")]
    between, end = ("", "。") if language == "zh" else (" ", ". ")
    said = (between.join(draw.choice(part) for part in parts) for _ in range(sentences))
    return end.join(sentence[0].upper() + sentence[1:] for sentence in said) + end.strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
