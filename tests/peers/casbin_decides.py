"""pycasbin as an oracle: a model, rules and questions a line, and the answers a line."""

import json
import logging
import sys
import tempfile
from pathlib import Path

import casbin


def decide(directory: Path, case: dict) -> list[bool]:
    (directory / "model.conf").write_text(case["model"])
    has_realms = "\ng = _, _, _" in case["model"]
    enforcers = {}
    answers = []
    for question in case["questions"]:
        subject, realm, *_ = question["request"]
        # An asserted role counts as if the subject had it. Not as a line: a subject may have a comma.
        given = tuple((subject, role, realm)[: 3 if has_realms else 2] for role in question["roles"])
        if given not in enforcers:
            (directory / "policy.csv").write_text(case["rules"])
            enforcers[given] = casbin.Enforcer(str(directory / "model.conf"), str(directory / "policy.csv"))
            for edge in given:
                enforcers[given].add_grouping_policy(*edge)
        answers.append(enforcers[given].enforce(*question["request"]))
    return answers


def main() -> None:
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as name:
        for line in sys.stdin:
            try:
                answer = {"allowed": decide(Path(name), json.loads(line))}
            except Exception as error:  # Whatever it raises, it does not decide.
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), flush=True)


main()
