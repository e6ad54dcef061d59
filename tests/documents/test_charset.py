"""Text in older encodings is read letter by letter, be it long or short."""

import pytest

from embedfleet.documents.parsers.charset import decode

WESTERN = {
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. L’été est là, à côté.",
    "fr short": "Le café est fermé à midi.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "de short": "Schöne Grüße",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y están dotados de razón.",
    "es short": "El niño soñó con la montaña.",
    "pt": "Todos os seres humanos nascem livres e iguais. São dotados de razão e de consciência.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti; così è perché può.",
    "it short": "La città è bella.",
    "sv": "Alla människor är födda fria och lika i värde och rättigheter. De har utrustats med förnuft.",
    "fi": "Kaikki ihmiset syntyvät vapaina ja tasavertaisina arvoltaan ja oikeuksiltaan.",
    "da": "Alle mennesker er født frie og lige i værdighed og rettigheder. De bør handle mod hverandre så.",
    "ca": "Tots els éssers humans neixen lliures i iguals en dignitat i en drets. És així.",
    "is": "Hver maður er borinn frjáls og jafn öðrum að virðingu og réttindum.",
}
CENTRAL = {
    "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
    "pl short": "Zażółć gęślą jaźń",
    "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.",
    "sk": "Všetci ľudia sa rodia slobodní a sebe rovní, čo sa týka ich dôstojnosti a práv.",
    "hu": "Minden emberi lény szabadon születik és egyenlő méltósága és joga van. Az emberek ésszel bírnak.",
    "hr": "Sva ljudska bića rađaju se slobodna i jednaka u dostojanstvu i pravima. Čovjek želi više.",
    "sl": "Vsi ljudje se rodijo svobodni in imajo enako dostojanstvo in enake pravice. Človek želi še več.",
    "ro": "Toate fiinţele umane se nasc libere şi egale în demnitate şi în drepturi. Ele sunt înzestrate.",
}
OTHERS = [
    (
        "cp1254",
        "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar. Akıl ve vicdana sahiptirler.",
    ),
    (
        "cp1257",
        "Visi žmonės gimsta laisvi ir lygūs savo orumu ir teisėmis. Jiems suteiktas protas ir sąžinė.",
    ),
    ("cp1257", "Visi cilvēki piedzimst brīvi un vienlīdzīgi savā pašcieņā un tiesībās."),
    ("cp1257", "Kõik inimesed sünnivad vabadena ja võrdsetena oma väärikuselt ja õigustelt."),
    ("iso8859_2", "Všichni lidé rodí se svobodní, žijí šťastně a sobě rovní co do důstojnosti a práv."),
    ("iso8859_2", "Wszyscy ludzie rodzą się wolni i równi; są oni obdarzeni rozumem, więc się śmieją."),
    ("iso8859_15", "L'œuvre du poète coûte 5 € à Paris, et le cœur n'est pas à vendre."),
    ("cp1251", "Все люди рождаются свободными и равными в своем достоинстве и правах."),
    ("cp866", "Все люди рождаются свободными и равными в своем достоинстве и правах."),
    ("koi8_r", "Все люди рождаются свободными и равными в своем достоинстве и правах."),
    ("cp1253", "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα."),
    ("gbk", "人人生而自由,在尊严和权利上一律平等。"),
    ("shift_jis", "すべての人間は、生まれながらにして自由である。"),
    ("euc_kr", "모든 인간은 태어날 때부터 자유로우며 그 존엄과 권리에 있어 동등하다."),
]
ENGLISH = "The quick brown fox jumps over the lazy dog, which was just waking up by the wooden box. " * 30


@pytest.mark.parametrize("times", [1, 4, 40])
@pytest.mark.parametrize("name", [*WESTERN, *CENTRAL])
def test_latin_text_in_its_windows_encoding(name, times):
    encoding = "cp1252" if name in WESTERN else "cp1250"
    text = ({**WESTERN, **CENTRAL}[name] + "\n") * times
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(("encoding", "text"), OTHERS)
def test_text_in_another_encoding(encoding, text):
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("name", ["fr", "it", "sv"])
@pytest.mark.parametrize("end", ["\n", " "], ids=["lines", "one-line"])
def test_a_sentence_among_english(name, end):
    text = ENGLISH + end + WESTERN[name] + end + ENGLISH
    assert decode(text.encode("cp1252")) == text


@pytest.mark.parametrize("name", ["pl", "cs", "hu"])
def test_a_sentence_of_central_europe_among_english(name):
    text = f"{ENGLISH} {CENTRAL[name]} {ENGLISH}"
    assert decode(text.encode("cp1250")) == text


@pytest.mark.parametrize("end", ["", "\r"], ids=["no-line", "old-mac"])
@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1252", "un café crème déjà goûté "),
        ("gbk", "在尊严和权利上一律平等 "),
        ("cp1258", "đươ\u0300ng vê\u0300 ca\u0309 rô\u0301t "),
    ],
)
def test_letters_far_behind_the_start_of_a_line(encoding, words, end):
    text = ("word " + end) * 8_000 + (words + end) * 1_000
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize(("name", "encoding"), [("ro", "cp1250"), ("cs", "cp1250"), ("fr", "cp1252")])
def test_a_word_or_two_on_lines_of_their_own_among_code(name, encoding):
    words = {**WESTERN, **CENTRAL}[name].split()
    code = "".join(f"    if place.at({at}) is None:\n        return {at}\n" for at in range(300))
    text = code + "".join(f"# {' '.join(words[at : at + 4])}\n" for at in range(0, len(words), 4)) + code
    assert decode(text.encode(encoding)) == text
