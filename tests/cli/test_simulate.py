"""The verb that tries a config on a trace: what it prints and draws, and how it fails."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from ai_proxy.config.diff import spec_hash
from ai_proxy.config.load import load
from ai_proxy.config.paths import state_dir
from ai_proxy.control.database import Database
from ai_proxy.control.learned import FILE_NAME
from ai_proxy.scheduler.figures import Figures
from tests.cli.shell import Said, run

pytestmark = pytest.mark.slow

CONFIG = """\
devices: [{id: "0", vram_mb: 24576}]
memory_mb: 64000
services:
  chat: {image: x, resources: {gpus: 1, vram_required_mb: 16000}, models: [big, "big-*"]}
  code: {image: y, resources: {gpus: 1, vram_required_mb: 15000}}
"""
TRACE = "at,service,duration\n0,chat,3\n60,big-9,1\n90,code,2\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "ai-proxy.yaml").write_text(CONFIG, "utf-8")
    (tmp_path / "trace.csv").write_text(TRACE, "utf-8")
    return tmp_path


def simulated(home: Path, *words: str) -> Said:
    return run(home, "simulate", *words)


def test_a_run_is_told_in_full(home: Path) -> None:
    said = simulated(home, "--trace", "trace.csv")

    assert (said.status, said.err) == (0, "")
    lines = {line.partition("  ")[0].strip(): line for line in said.out.splitlines()}
    assert "2 services on 1 GPU with 24,576 MB" in said.out
    assert "3 served, 0 refused, 0 unanswered" in lines["requests"]
    assert "1 for room" in lines["evictions"]
    assert "GPU 0" in lines
    assert "claims ahead" in said.out


def test_as_json_it_is_the_same_each_time(home: Path) -> None:
    once, again = (simulated(home, "--generate", "chains", "--seed", "7", "--json") for _ in range(2))

    assert once.out == again.out
    said = json.loads(once.out)
    assert said["reports"][0]["policy"] == "ours"
    assert said["reports"][0]["unanswered"] == 0
    assert said["oversubscription"] > 1


def test_another_seed_is_another_trace(home: Path) -> None:
    once, other = (simulated(home, "--generate", "zipf", "--seed", seed, "--json") for seed in ("1", "2"))

    assert once.out != other.out


def test_all_policies_are_compared_a_line_each(home: Path) -> None:
    said = simulated(home, "--generate", "zipf", "--duration", "20m", "--policy", "all")

    assert said.status == 0
    header = next(line for line in said.out.splitlines() if line.startswith("POLICY"))
    assert "COLD STARTS" in header
    starts = [line.split()[0] for line in said.out.splitlines() if line.strip()]
    assert {"ours", "lru", "lfu", "lemonade", "gdsf", "groups", "clairvoyant"} <= set(starts)


def test_the_picture_shows_the_gpus_of_the_config(home: Path) -> None:
    said = simulated(home, "--trace", "trace.csv", "--gantt", "out.svg")

    assert said.status == 0
    texts = [text.text for text in ET.parse(home / "out.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert {"GPU 0", "24,576 MB", "chat", "ai-proxy.yaml, trace.csv"} <= set(texts)


def test_other_gpus_may_be_tried(home: Path) -> None:
    said = simulated(home, "--trace", "trace.csv", "--gpu", "24000", "--gpu", "24000", "--json")

    assert [device["vram_mb"] for device in json.loads(said.out)["devices"]] == [24000, 24000]
    assert json.loads(said.out)["reports"][0]["evictions"] == {}


def test_a_load_time_that_is_known_takes_the_place_of_the_guess(home: Path) -> None:
    said = simulated(home, "--trace", "trace.csv", "--load", "chat=40", "--load", "code=2.5", "--json")

    assert json.loads(said.out)["reports"][0]["load_s"] == 42.5


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ([], "give either --trace FILE or --generate NAME"),
        (["--trace", "trace.csv", "--generate", "zipf"], "give either --trace FILE or --generate NAME"),
        (["--trace", "no.csv"], "no.csv: No such file or directory"),
        (["--generate", "noise"], "no generator is called noise; there are poisson, "),
        (["--generate", "zipf", "--policy", "fifo"], "no policy is called fifo; there are ours, lru, "),
        (["--generate", "zipf", "--duration", "long"], "--duration long: not a duration: 'long'; write 30s"),
        (["--generate", "zipf", "--load", "chat"], "--load chat: not SERVICE=SECONDS; write for instance chat=12.5"),
        (["--generate", "zipf", "--load", "chta=3"], "--load chta=3: services are chat, code; "),
        (["--generate", "zipf", "--gantt", "no/out.svg"], "can't write no/out.svg: No such file or directory"),
        (["--generate", "zipf", "--policy", "all", "--gantt", "x.svg"], "--gantt draws the run of one policy: "),
    ],
    ids=[
        "no-trace", "two-traces", "no-file", "generator", "policy", "duration", "load", "load-service", "picture",
        "two-pictures",
    ],
)  # fmt: skip
def test_a_fault_is_one_line_that_says_what_to_do(home: Path, words: list[str], fault: str) -> None:
    said = simulated(home, *words)

    assert (said.status, said.err.count("\n")) == (1, 1)
    assert said.err.startswith(fault)


def test_a_name_that_no_service_offers_is_told_with_its_line(home: Path) -> None:
    (home / "trace.csv").write_text(TRACE + "95,chta,1\n", "utf-8")

    said = simulated(home, "--trace", "trace.csv")

    assert (said.status, said.err.count("\n")) == (1, 1)
    assert said.err.startswith("trace.csv, line 5: no model 'chta' here")
    assert "ai-proxy.yaml" in said.err


def test_a_machine_without_a_gpu_is_told_how_to_name_one(home: Path) -> None:
    (home / "ai-proxy.yaml").write_text(CONFIG.replace('[{id: "0", vram_mb: 24576}]', "auto"), "utf-8")

    said = simulated(home, "--trace", "trace.csv")

    assert said.status == 1
    assert "ai-proxy.yaml: its services need a GPU and none is known: say --gpu MB" in said.err


def test_the_events_of_a_real_run_are_drawn(home: Path) -> None:
    told = {"type": "service", "service": "chat", "devices": ["0"], "vram_mb": 9000}
    events = [{**told, "at": 10.0, "state": "starting"}, {**told, "at": 14.0, "state": "ready"}]
    events.append({"type": "request_answered", "at": 20.0, "service": "chat", "outcome": "admitted", "waited_s": 9.0})
    (home / "run.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), "utf-8")

    said = run(home, "gantt", "run.jsonl", "run.svg")

    assert (said.status, said.err) == (0, "")
    texts = {text.text for text in ET.parse(home / "run.svg").iter("{http://www.w3.org/2000/svg}text")}
    assert {"run.jsonl", "GPU 0", "chat", "loading", "ready", "requests wait"} <= texts


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{}\n", "run.jsonl: line 1: not an event as `ai-proxy events --json` prints it"),
        ("", "run.jsonl: no event tells of a replica on a device"),
    ],
    ids=["no-event", "empty"],
)
def test_events_that_can_not_be_drawn_are_told_why(home: Path, text: str, fault: str) -> None:
    (home / "run.jsonl").write_text(text, "utf-8")

    said = run(home, "gantt", "run.jsonl", "run.svg")

    assert (said.status, said.err.count("\n")) == (1, 1)
    assert said.err.startswith(fault)


def test_what_the_proxy_has_learned_takes_the_place_of_guesses(home: Path) -> None:
    (home / "ai-proxy.yaml").write_text(CONFIG.replace("vram_required_mb: 15000", "vram_required_mb: auto"), "utf-8")
    config = load(home / "ai-proxy.yaml", {})
    folder = state_dir(home / "ai-proxy.yaml", config, {"HOME": str(home)})
    folder.mkdir(parents=True)
    learned = Database(folder / FILE_NAME)
    shapes = {service: spec_hash(settings) for service, settings in config.services.items()}
    seen = {(shapes["chat"], "L4"): Figures(loads_s=(7.0,)), (shapes["code"], "L4"): Figures(5_000, (9.0,))}
    learned.save(seen, (), {})
    learned.close()

    report = json.loads(simulated(home, "--trace", "trace.csv", "--json").out)["reports"][0]

    assert report["load_s"] == 16.0
    assert report["evictions"] == {}, "code fits beside chat, by what was seen of it"
    assert "load times: 1 given, 1 learned" in simulated(home, "--trace", "trace.csv", "--load", "chat=1").out


def test_what_was_learned_and_can_not_be_read_is_left_aside_and_told(home: Path) -> None:
    (home / "ai-proxy.yaml").write_text(f"state_dir: {home}\n{CONFIG}", "utf-8")
    (home / FILE_NAME).write_text("no database", "utf-8")

    said = simulated(home, "--trace", "trace.csv")

    assert said.status == 0
    assert said.err.startswith(f"note: what was learned is left aside: {home / FILE_NAME}: ")
    assert (home / FILE_NAME).read_text("utf-8") == "no database"
