"""Two examples for the end of every verb's help."""

EXAMPLES = {
    "init": ("init rows.csv", "init rows.csv --target label -o fruit.toml"),
    "check": ("check rows.csv --target label", "check fruit.toml --valid new.csv --drop-bad"),
    "plan": ("plan fruit.toml", "plan --classes 1000000 --dim 128 --rows 5000000"),
    "train": (
        "train rows.csv --target label --out run",
        "train fruit.toml --set train.epochs=3 --time-limit 10m",
    ),
    "resume": ("resume run", "resume run --json"),
    "evaluate": ("evaluate run new.csv", "evaluate run new.csv --all --report page.html"),
    "predict": ("predict run new.csv -k 3 --format csv", "predict run - --json"),
    "suggest": ("suggest run article.txt", "suggest run titles.csv --coverage 0.8"),
    "recommend": (
        "recommend run --user 42 -k 5",
        "recommend run --history tea,ink --exclude sold-out.csv --json",
    ),
    "rank": (
        "rank run clicks.csv --watch-time seconds --out ranker",
        "rank run clicks.csv --objective lambdarank --items items.csv --out ranker",
    ),
    "neighbors": ("neighbors run --item tea", "neighbors run tea -k 3 --json"),
    "extend": ("extend run --classes new.csv --out larger", "extend run --classes new.csv --out run2 --json"),
    "export": ("export run --out small", "export run --out vectors --format embeddings"),
    "serve": ("serve run", "serve run --host 0.0.0.0 --allow-host models.example.org"),
    "studio": ("studio", "studio runs --port 9000 --open"),
    "audit": ("audit run", "audit run --sampler frequency,uniform --plot audit.svg"),
    "verify": ("verify run", "verify run --json"),
    "sign": ("sign run --key private.pem", "sign run --key private.pem --json"),
    "doctor": ("doctor", "doctor --json"),
    "demo": ("demo", "demo words --out words-run"),
    "data list": ("data list", "data list --json"),
    "data get": ("data get clinc150", "data get mnist --download"),
    "recipe list": ("recipe list", "recipe list --json"),
    "recipe run": ("recipe run softmax-lab --quick", "recipe run overflow --out overflow --seed 1"),
}


def examples(verb: str) -> str:
    r"""The last lines of a verb's help, kept as they are by ``\b``."""
    return "\n".join(["\b", "Examples:", *(f"  widemax {line}" for line in EXAMPLES[verb])])
