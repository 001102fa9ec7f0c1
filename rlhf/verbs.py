"""The verb of `lab` on which people teach a run that is being trained; nothing here loads JAX."""

from common.verbs import Flag, RunVerb


def _plain(token: str) -> str:
    ok = 8 <= len(token) <= 128 and token.isascii() and token.isprintable() and " " not in token
    return "" if ok else "8 to 128 printable signs without spaces"


VERBS = {
    "label": RunVerb(
        "serve the page on which people compare the clips of a run (extra: web)",
        "rlhf.labelling.command:label",
        flags=(
            Flag("port", 8000, "of the page; 0: one that is free", 0, 65_535),
            Flag(
                "host", "127.0.0.1", "address to serve at; others than this machine's need --token"
            ),
            Flag(
                "token",
                None,
                "what people have to know, at the end of the address",
                expected=_plain,
            ),
            Flag(
                "labels",
                None,
                "first take in the labels of another store, or of what --export wrote",
                is_path=True,
            ),
            Flag(
                "export",
                None,
                "write all labels as lines of JSON to this file, and serve nothing",
                is_path=True,
                not_with=("port", "host", "token"),
            ),
        ),
        stopped="every answer that the page has shown as taken is kept",
        examples=(
            "lab label 0123456789ab",
            "lab label --run=runs/rlhf.human_preferences/people/0123456789ab/seed0 --port=8001",
            "lab label 0123456789ab --host=0.0.0.0 --token=ask-me-for-it",
            "lab label 0123456789ab --export=labels.jsonl",
        ),
        notes="""\
Train a config of people beside it (rlhf/labelling/README.md): it asks, waits for answers and goes
on. Either of the two may be stopped and started again at any moment. Keys on the page: Left and
Right prefer a clip, Up calls both equally good, Down can't tell, U takes the last answer back,
Space pauses.

Exit codes: 2 a mistake in the command, or the extra is not installed; 4 the store of labels is
damaged or cannot be written; 75 stopped.""",
        loads=False,
    )
}
