"""Cases of try_clients: programs that save models and training runs below `ingest/`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

from tools.clients.models import fingerprint, fingerprint_of, language_model, library, load_language_model, whose
from tools.clients.side import LINGER_S, QUIET_S, ROOT, Side, again, names, run

STEPS = 8
STEPS_TO_SAVE = 2
LOSSES = (3.0, 1.0, 2.0, 4.0, 5.0, 6.0)
"""Of the evaluations of a run, one after the other: the second one is the best."""


def save_again(side: Side) -> None:
    """A model that was removed and saved anew is the new one, with no file of the old one beside it."""
    one, other = language_model(1), language_model(2)
    known = {"the old": fingerprint(one), "the new": fingerprint(other)}
    target, served = side.ingest / "x", side.served / "x"
    one.save_pretrained(target)
    side.wait_until_served()
    side.note("first save: files", names(served))
    side.note("first save: weights", whose(fingerprint(load_language_model(served)), **known))
    shutil.rmtree(target)
    other.save_pretrained(target, max_shard_size="10MB")
    side.wait_until_served()
    side.note("rmtree, saved in shards: files", names(served))
    side.note("rmtree, saved in shards: weights", whose(fingerprint(load_language_model(served)), **known))


def save_fewer_shards(side: Side) -> None:
    """Shards that transformers removes when it saves fewer of them leave the served model too."""
    one, other = language_model(3, layers=5), language_model(4, layers=5)
    known = {"the old": fingerprint(one), "the new": fingerprint(other)}
    target, served = side.ingest / "org" / "y", side.served / "org" / "y"
    one.save_pretrained(target, max_shard_size="4MB")
    side.wait_until_served()
    side.note("many shards: files", names(served))
    for size in ("10MB", "1GB"):
        side.outlast_linger()
        other.save_pretrained(target, max_shard_size=size)
        side.wait_until_served()
        side.note(f"then shards of {size}: files", names(served))
        side.note(f"then shards of {size}: weights", whose(fingerprint(load_language_model(served)), **known))
        one, other = other, one
        known = {"the old": known["the new"], "the new": known["the old"]}


def train(output: str, steps: str, pause_s: str, resumes: str) -> None:
    """A run of transformers.Trainer; prints what it found. In a process of its own."""
    torch = library("torch")
    transformers: Any = library("transformers")
    rows = [{"input_ids": torch.arange(8) + i % 16, "labels": torch.arange(8) + i % 16} for i in range(64)]
    starts: list[int] = []

    class Pausing(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            starts.append(state.global_step)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            time.sleep(float(pause_s))

    class Scripted(transformers.Trainer):  # type: ignore[misc]
        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            found = {"eval_loss": LOSSES[self.state.global_step // STEPS_TO_SAVE - 1]}
            self.log(found)
            return found

    trainer = Scripted(
        model=language_model(5, layers=1, width=32),
        args=transformers.TrainingArguments(
            output_dir=output,
            max_steps=int(steps),
            save_steps=STEPS_TO_SAVE,
            eval_steps=STEPS_TO_SAVE,
            eval_strategy="steps",
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_loss",
            greater_is_better=False,
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            per_device_train_batch_size=4,
        ),
        train_dataset=rows,
        eval_dataset=rows[:4],
        callbacks=[Pausing()],
    )
    trainer.train(resume_from_checkpoint=resumes == "resumes" or None)
    best = trainer.state.best_model_checkpoint
    kept = load_language_model(Path(best)) if best and Path(best).is_dir() else None
    equal = kept is not None and fingerprint(kept) == fingerprint(trainer.model)
    print(f"@{starts[0]}|{Path(best).name if best else None}|{equal}")


def trainer(side: Side) -> None:
    """The Trainer finds its best checkpoint, resumes at its last one, and keeps as many steps as it was told to."""
    run_folder, served = side.ingest / "run", side.served / "run"
    pause_s = QUIET_S + 1.5 if side.is_mount else 0.0
    for title, steps, resumes in (("run", STEPS, "anew"), ("second process", STEPS + 4, "resumes")):
        said = again(__name__, "train", run_folder, steps, pause_s, resumes)
        start, best, equal = next(line for line in said.splitlines() if line.startswith("@"))[1:].split("|")
        side.note(f"{title}: starts at step", start)
        side.note(f"{title}: best checkpoint", best)
        side.note(f"{title}: ends with the best weights", equal)
        side.note(f"{title}: steps below ingest/", [name for name in names(run_folder) if "checkpoint" in name])
        side.outlast_linger()
        side.note(
            f"{title}: steps served",
            sorted((name for name in names(served) if "checkpoint" in name), key=lambda name: int(name[11:])),
            promised=[f"checkpoint-{step}" for step in range(STEPS_TO_SAVE, steps + 1, STEPS_TO_SAVE)],
        )
    last = f"checkpoint-{STEPS + 4}"
    side.note("last step: served files", names(served / last))
    side.note("last step: loads", len(fingerprint(load_language_model(served / last))) == 12)
    removed = run("rm", "-r", served / "checkpoint-2") if side.is_mount else ""
    side.note("an old step can be removed", removed == "" and not (served / "checkpoint-2").exists())


def script(side: Side) -> None:
    """A directory that a job made once stays its own, however long it pauses; so does one that a shell stands in."""
    torch = library("torch")
    out = side.ingest / "out"
    out.mkdir()
    side.pause(QUIET_S + LINGER_S + 3)
    for number in (1, 2):
        torch.save({"step": number, "weights": torch.full((300_000,), float(number))}, out / "ckpt.pt")
        side.outlast_linger()
        found = torch.load(side.served / "out" / "ckpt.pt", weights_only=True)
        side.note(f"save {number}: served step", (found["step"], float(found["weights"].sum())))
        side.note(f"save {number}: directory", names(out))
    program = f"""
        mkdir run2 && cd run2 && echo a >first && sleep {QUIET_S + LINGER_S + 3 if side.is_mount else 0}
        echo b >second && mkdir deeper && echo c >deeper/third && cat first second deeper/third && ls -C
        mkdir -p ../run2/deeper/again && mv second renamed && ls -C
    """
    side.note("shell in a directory", run("bash", "-c", textwrap.dedent(program), cwd=side.ingest, check=False))
    side.wait_until_served()
    side.note("shell in a directory: served", names(side.served / "run2"))


def accelerate(side: Side) -> None:
    """accelerate rotates its states and loads one from where it is served."""
    torch, accelerate_ = library("torch"), library("accelerate")
    configuration = accelerate_.utils.ProjectConfiguration(
        project_dir=str(side.ingest / "acc"), automatic_checkpoint_naming=True, total_limit=2
    )
    accelerator = accelerate_.Accelerator(cpu=True, project_config=configuration)
    torch.manual_seed(6)
    model = torch.nn.Linear(300, 300)
    optimizer = torch.optim.AdamW(model.parameters())
    model, optimizer = accelerator.prepare(model, optimizer)
    sums = []
    for _ in range(4):
        model(torch.ones(300)).sum().backward()
        optimizer.step()
        accelerator.save_state()
        sums.append(fingerprint(model))
        side.seal_pause()
    states = [f"checkpoint_{number}" for number in range(4)]
    side.note("states below ingest/", names(side.ingest / "acc" / "checkpoints"))
    side.wait_until_served()
    served = side.served / "acc" / "checkpoints"
    side.note("states served", names(served), promised=states)
    side.note("last state: files", names(served / states[-1]))
    accelerator.load_state(str(served / states[-2]))
    side.note("state before the last, loaded as served", sums.index(fingerprint(model)))
    accelerator.load_state()
    side.note("last state that accelerate finds itself", sums.index(fingerprint(model)))


def torch_files(side: Side) -> None:
    """What PyTorch, safetensors and peft save is loaded from where it is served."""
    torch, safetensors = library("torch"), library("safetensors.torch")
    torch.manual_seed(7)
    tensors = {"a": torch.randn(500, 400), "b": torch.arange(9), "c": torch.randn(100).to(torch.bfloat16)}
    print_ = fingerprint_of(tensors)
    torch.save(tensors, side.ingest / "zip.pt")
    torch.save(tensors, side.ingest / "legacy.pt", _use_new_zipfile_serialization=False)
    safetensors.save_file(tensors, side.ingest / "m.safetensors")
    side.wait_until_served()
    for name, mmap in (("zip.pt", False), ("zip.pt", True), ("legacy.pt", False)):
        found = torch.load(side.served / name, mmap=mmap, weights_only=True)
        side.note(f"torch.load {name}{' mmap' if mmap else ''}", fingerprint_of(found) == print_)
    found = safetensors.load_file(side.served / "m.safetensors")
    side.note("safetensors load_file", fingerprint_of(found) == print_)
    torch.save({"a": torch.zeros(5)}, side.ingest / "zip.pt")
    side.wait_until_served()
    side.note("saved over: torch.load", torch.load(side.served / "zip.pt")["a"].tolist())


def distributed_checkpoint(side: Side) -> None:
    """A checkpoint of torch.distributed is served whole, and again when it is saved over."""
    torch, dcp = library("torch"), library("torch.distributed.checkpoint")
    for number in (1, 2):
        tensors = {"model": {"w": torch.full((400, 500), float(number)), "step": torch.tensor(number)}}
        dcp.save(tensors, checkpoint_id=str(side.ingest / "dcp"), no_dist=True)
        side.outlast_linger()
        side.note(f"save {number}: files", names(side.served / "dcp"))
        found = {"model": {"w": torch.zeros(400, 500), "step": torch.tensor(0)}}
        dcp.load(found, checkpoint_id=str(side.served / "dcp"), no_dist=True)
        side.note(f"save {number}: loaded", (found["model"]["w"].mean().item(), found["model"]["step"].item()))


def adapters(side: Side) -> None:
    """An adapter of peft, saved beside its base, is loaded onto the served base."""
    torch, peft = library("torch"), library("peft")
    base = language_model(8, layers=2, width=64)
    base.save_pretrained(side.ingest / "base")
    torch.manual_seed(9)
    tuned = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    tuned.save_pretrained(side.ingest / "base-lora")
    side.wait_until_served()
    side.note("files", names(side.served / "base-lora"))
    found = peft.PeftModel.from_pretrained(
        load_language_model(side.served / "base"), str(side.served / "base-lora"), local_files_only=True
    )
    side.note("weights", fingerprint(found) == fingerprint(tuned))
    merged = found.merge_and_unload()
    merged.save_pretrained(side.ingest / "base-merged")
    side.wait_until_served()
    side.note("merged", fingerprint(load_language_model(side.served / "base-merged")) == fingerprint(merged))


SLOW_SAVE = """
import sys, time
import torch

class Slow:
    def __init__(self, file):
        self.file = file
    def write(self, data):
        count = self.file.write(data)
        self.file.flush()
        print("wrote", flush=True)
        time.sleep(0.5)
        return count
    def flush(self):
        self.file.flush()

with open(sys.argv[1], "wb") as file:
    torch.save({str(i): torch.full((200_000,), float(i)) for i in range(200)}, Slow(file))
"""


def killed_writer(side: Side) -> None:
    """A kill of the daemon in the middle of a save leaves the good version served, and tells of the cut-off one."""
    from tools.clients.side import OPTIONS, ZIPFS, status

    if not side.is_mount:
        return
    torch = library("torch")
    target, served = side.ingest / "km" / "ckpt.pt", side.served / "km" / "ckpt.pt"
    target.parent.mkdir()
    torch.save({"version": 1, "w": torch.arange(500_000)}, target)
    side.wait_until_served()
    writer = subprocess.Popen(
        [sys.executable, "-c", SLOW_SAVE, str(target)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT
    )
    assert writer.stdout is not None
    for _ in range(8):
        writer.stdout.readline()
    run("kill", "-9", status(side)["pid"])
    side.note("the save fails", writer.wait(60) != 0, promised=True)
    run(ZIPFS, "umount", side.served)
    run(ZIPFS, "mount", *OPTIONS, side.store, side.served)
    time.sleep(QUIET_S + 2)
    said = side.wait_until_served()
    side.note("after the kill: served", torch.load(served)["version"], promised=1)
    side.note(
        "zipfs wait",
        (said[:11], "km/ckpt.pt: was being written" in said.replace("\n", " ")),
        promised=("exit code 1", True),
    )
    side.note("zipfs status names it", "km/ckpt.pt" in run(ZIPFS, "status", side.served), promised=True)
    torch.save({"version": 2, "w": torch.arange(500_000)}, target)
    said = side.wait_until_served()
    side.note("saved again: served", torch.load(served)["version"], promised=2)
    side.note("saved again: zipfs wait", said[:11], promised="exit code 0")
