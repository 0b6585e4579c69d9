"""Writes trained.jsonl.gz: tokenizers that the BpeTrainer of Hugging Face's tokenizers 0.23.3 trains on texts made here.

One row a line: name, texts, vocabulary, min_frequency, and file, the tokenizer.json as the library saves it.
Run with the folder of the result: python make_trained.py testdata
"""

import gzip
import json
import random
import sys

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIALS = ["<unk>", "<s>", "</s>"]


def train(name, texts, vocabulary, min_frequency=0):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=min_frequency,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tok.train_from_iterator(texts, trainer)
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s>:1 $B:1", special_tokens=[("<s>", 1)]
    )
    return {
        "name": name,
        "texts": texts,
        "vocabulary": vocabulary,
        "min_frequency": min_frequency,
        "file": tok.to_str(pretty=True),
    }


def prose(rng, lines):
    """Sentences of one small grammar, with numbers, quotes and contractions."""
    who = ["Anna", "the baker", "an old sailor", "Mr Brown's dog", "nobody", "the twins"]
    does = ["didn't see", "carries", "has broken", "will've sold", "likes", "can't lift", "paints"]
    what = ["a red lantern", "the wooden box", "seven apples", "his uncle's boat", "12 coins", "the unbreakable cup"]
    why = ["because it rained", "in 1887", "near the mill", "and laughed", "; then went home", "(so they say)"]
    out = []
    for _ in range(lines):
        s = f"{rng.choice(who)} {rng.choice(does)} {rng.choice(what)} {rng.choice(why)}."
        if rng.random() < 0.2:
            s = f'"{s}" she said; "{rng.randrange(10000)} times!"'
        out.append(s[0].upper() + s[1:])
    return out


def letters(rng, words, alphabet, longest):
    """Words of few letters, where pairs overlap and counts tie."""
    return [" ".join("".join(rng.choice(alphabet) for _ in range(rng.randint(1, longest))) for _ in range(words))]


def main(folder):
    rng = random.Random(8)
    stories = prose(rng, 400)
    scripts = [
        "Größe, naïve façade; Ελληνικά και ελληνική γλώσσα. Русский язык, русские слова.",
        "日本語の文章と日本語の言葉。 中文句子,中文词语。 한국어 문장과 한국어 단어",
        "नमस्ते दुनिया नमस्ते ​ العربية والعربية שלום שלום",
        "🙂🙃🙂🙂 👩‍👩‍👧 👩‍👩‍👧 \u00a0\u2003x\u3000y \u0000\u0001\u007f\u00ad soft\u00adhyphen",
        "e\u0301e\u0301 é ½ ²³ Ⅷ ١٢٣ 1234567890 007",
    ]
    space = ["  two   three    four\n\n\nlines\n\n\n\n\t\ttabs\t \t mixed \r\n\r\n end   ", "\n" * 37 + " " * 41 + "x" + " " * 23]
    code = ['if (x == "\\\\") { return "<s>" + \'</s>\' + "<unk>"; } // <s> <s> <s>\n'] * 7 + ["#version 1 #version 2\n"] * 5
    rows = [
        train("prose", stories, 500),
        train("prose, frequent pairs", stories, 330, 40),
        train("each word once", [" ".join(sorted({w for s in stories for w in s.split()}))], 400),
        train("scripts", scripts * 3, 480),
        train("scripts, ties only", scripts, 420),
        train("white space", space * 2, 290),
        train("code and the text of special tokens", code, 330),
        train("two letters", letters(rng, 400, "ab", 24), 420),
        train("three letters", letters(rng, 600, "aab", 12), 500),
        train("one letter", ["a" * n for n in range(1, 40)], 275),
        train("one long word", ["".join(rng.choice("abcd") for _ in range(20000))], 600),
        train("low lower newest widest", ["low " * 5 + "lower " * 2 + "newest " * 6 + "widest " * 3], 275),
        train("no merges", stories[:3], 259),
        train("exhausted", ["tiny text"], 400),
    ]
    for k in range(24):
        texts = letters(rng, rng.randint(5, 200), "abcdefgh"[: rng.randint(1, 8)], rng.randint(2, 30))
        rows.append(train(f"letters {k}", texts, rng.randint(262, 420), rng.randint(0, 3)))
    with open(f"{folder}/trained.jsonl.gz", "wb") as raw:
        with gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as z:
            for row in rows:
                z.write((json.dumps(row, ensure_ascii=False) + "\n").encode())


main(sys.argv[1])
