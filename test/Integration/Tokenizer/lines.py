"""Mixed text for comparing tokenizers: the same lines for the same seed."""
import random
import unicodedata

ENGLISH = (
    "the of and to in a is that it was for on are as with his they at be this have from or one had by word but not "
    "what all were we when your can said there use an each which she do how their if will up other about out many "
    "then them these so some her would make like him into time has look two more write go see number no way could "
    "people my than first water been call who oil its now find long down day did get come made may part I'm you've "
    "they'll it's don't we're he'd Unbelievable antidisestablishmentarianism CamelCaseWord SHOUTING naïve café "
    "coöperate résumé Zürich Ångström"
).split()
CODE = (
    "for (int i = 0; i < n; ++i) {\n  sum += a[i] * b[i];\n}",
    "def f(x, *args, **kw):\n    return [y for y in x if y is not None]\n",
    "#include <vector>\nstd::vector<std::pair<int, float>> v{{1, 2.5f}};",
    'SELECT name, count(*) FROM t WHERE a != \'b\' AND c <> "d";',
    "const x = async () => { await fetch(`https://example.org/${id}?q=1&r=%20`); };",
    "\t\tif (p->next != NULL && !strcmp(p->s, \"\\n\\t\\\"\")) goto out;\r\n",
    "0x7fff_ffff 1e-10 3.14159f 0b1011 1_000_000 ~!@#$%^&*()_+-=[]{}|;':\",./<>?",
    "<div class=\"a b\">&nbsp;<!-- note --></div>",
)
CJK = "私は日本語を話します。東京都の天気は晴れです中文字符测试今天很好한국어문장도있습니다안녕하세요「」、。！？０１２３ｱｲｳ々〆ヶ"
SCRIPTS = (
    "Привет мир, как дела?", "Γειά σου Κόσμε", "مرحبا بالعالم ١٢٣", "שלום עולם", "नमस्ते दुनिया १२३", "สวัสดีชาวโลก",
    "Xin chào thế giới", "გამარჯობა მსოფლიო", "Բարեւ աշխարհ", "ወርልድ ሰላም", "வணக்கம் உலகம்", "İstanbul ıssız", "ﬁne ﬂow ﬀ",
    "ǅ ǈ ǋ ʰ ᵃ ⅷ Ⅻ ② ¾ ¹²³ ٣ ௧ 〇 ㉈ 𝟘𝟙𝟚 𝒜𝓑 𝕳", "ſs ẞ ß K Å Ω", "ᏸ 𞤀𞤁𞥐 ꬰ ⹃ Ꟶ 𐓏 ᲀ 𑙠 ꭩ ㋿ 🄍 𐞁",
)
EMOJI = (
    "😀", "🎉", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "☃", "👩🏿‍🚀", "🧑‍💻", "1️⃣", "🫠", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "©️®™",
)
MARKS = ("e\u0301", "a\u0323\u0302", "a\u0302\u0323", "o\u0308\u0304", "q\u0307\u0323", "\u0301alone", "Z\u0351\u0357\u0343",
         "\u1100\u1161\u11a8", "n\u0303", "\u0344", "\u212b", "\u2126", "\u0958", "\ufb2c", "\u1e9b\u0323")
SPACES = (" ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", " \n ", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\u2029",
          "\u0085", "\u1680", "\u180e", "\u202f", "\u205f", "\ufeff", "\x0b", "\x0c", "        ", "\t\t\t", "\u2581")
CONTROLS = tuple(chr(c) for c in list(range(0, 9)) + list(range(14, 32)) + [127, 0x80, 0x9f, 0xad, 0x200e, 0x202e, 0xfffd, 0xffff])
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>", "</s>", "<unk>", "<tool>", "<mask>", "[MASK]")
CONTRACTIONS = ("'s", "'S", "'t", "'re", "'RE", "'ve", "'m", "'LL", "'ll", "'d", "’s", "'x", "''")


def any_character(rng):
    while True:
        c = rng.choice((rng.randrange(0x20, 0x3000), rng.randrange(0x3000, 0x20000), rng.randrange(0x110000)))
        # Libraries follow different versions of Unicode, so newer characters differ.
        if unicodedata.ucd_3_2_0.category(chr(c)) not in ("Cs", "Cn"):
            return chr(c)


def fragment(rng):
    kind = rng.randrange(15)
    if kind <= 3:
        words = [rng.choice(ENGLISH) for _ in range(rng.randrange(1, 9))]
        return rng.choice((" ", " ", " ", "  ", ", ", "-", ".")).join(words) + rng.choice(("", ".", "!", "?", " ", "..."))
    if kind == 4:
        code = rng.choice(CODE)
        return code[rng.randrange(4):] if rng.random() < 0.3 else code
    if kind == 5:
        start = rng.randrange(len(CJK))
        return CJK[start:start + rng.randrange(1, 12)]
    if kind == 6:
        return rng.choice(SCRIPTS)
    if kind == 7:
        return "".join(rng.choice(EMOJI) for _ in range(rng.randrange(1, 4)))
    if kind == 8:
        return "".join(rng.choice(MARKS) for _ in range(rng.randrange(1, 4)))
    if kind == 9:
        return "".join(rng.choice(SPACES) for _ in range(rng.randrange(1, 6)))
    if kind == 10:
        return "".join(rng.choice("0123456789") for _ in range(rng.choice((1, 2, 3, 4, 5, 7, 20, 60))))
    if kind == 11:
        return rng.choice(CONTROLS)
    if kind == 12:
        return rng.choice(SPECIALS)
    if kind == 13:
        return rng.choice(ENGLISH) + rng.choice(CONTRACTIONS) + rng.choice(("", " ", "s", "a"))
    return "".join(any_character(rng) for _ in range(rng.randrange(1, 8)))


def mixed_lines(count, seed=1):
    rng = random.Random(seed)
    lines = ["", " ", "\n", "a", "  a", "a  ", "\u0000", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 20,
             " " * 300 + "x", "\n" * 100, "1234567890" * 30, "'s's'S", "\u0301" * 50 + "\u0323" * 50]
    while len(lines) < count:
        lines.append("".join(fragment(rng) + rng.choice(("", "", " ")) for _ in range(rng.randrange(1, 7))))
    return lines[:count]


def plain_text(size, seed=2):
    """English-like text of about `size` characters, for training and for timing."""
    rng = random.Random(seed)
    parts, total = [], 0
    while total < size:
        word = rng.choice(ENGLISH) if rng.random() < 0.8 else "".join(
            rng.choice(("ba", "to", "ri", "mu", "len", "sch", "qua", "ing", "er", "on")) for _ in range(rng.randrange(1, 5)))
        parts.append(word + rng.choice((" ", " ", " ", " ", ", ", ". ", "\n")))
        total += len(parts[-1])
    return "".join(parts)
