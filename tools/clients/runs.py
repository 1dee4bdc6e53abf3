"""Cases of try_clients: training runs that save, rotate, resume and follow their best step."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tools.clients.models import fingerprint, fingerprint_of, language_model, library, load_language_model
from tools.clients.side import (
    ROOT,
    Side,
    again,
    beside,
    difference,
    digest,
    is_told_to_end,
    names,
    printed,
    run,
    tree,
)

STEPS_TO_SAVE = 2
RUNS = (("run", 8, "anew"), ("second process", 14, "resumes"), ("third process", 20, "resumes"))
"""Ten checkpoints: to which step each process goes, and how it begins."""
LOSSES = (3.0, 1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 8.0, 0.5, 9.0)
"""Of the evaluations of a run, one after the other: the second one is the best, and later the last but one."""
SPEED_ROUNDS = 3


def train(output: str, steps: str, pause_s: str, resumes: str, size: str) -> None:
    """A run of transformers.Trainer; prints what it found. In a process of its own."""
    torch = library("torch")
    transformers: Any = library("transformers")
    torch.set_num_threads(1)
    layers, width, batch, length = (1, 32, 4, 8) if size == "tiny" else (4, 256, 16, 16)
    rows = [{"input_ids": torch.arange(length) + i % 16, "labels": torch.arange(length) + i % 16} for i in range(64)]
    model = language_model(5, layers=layers, width=width)
    starts: list[int] = []
    folder = Path(output)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Checkpoints hold the name of the run's folder: the same one on every side.
    sys.path.insert(0, str(ROOT))
    os.chdir(folder.parent)

    class Pausing(transformers.TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            starts.append(state.global_step)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if size == "tiny":
                print(f"saved:{json.dumps(tree(folder))}", flush=True)
            time.sleep(float(pause_s))

    class Scripted(transformers.Trainer):  # type: ignore[misc]
        def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
            found = {"eval_loss": LOSSES[self.state.global_step // STEPS_TO_SAVE - 1]}
            self.log(found)
            return found

    trainer = Scripted(
        model=model,
        args=transformers.TrainingArguments(
            output_dir=folder.name,
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
            per_device_train_batch_size=batch,
        ),
        train_dataset=rows,
        eval_dataset=rows[:4],
        callbacks=[Pausing()],
    )
    begin = time.monotonic()
    trainer.train(resume_from_checkpoint=resumes == "resumes" or None)
    took_s = time.monotonic() - begin
    trainer.save_model()
    best = trainer.state.best_model_checkpoint
    kept = load_language_model(Path(best)) if best and Path(best).is_dir() else None
    equal = kept is not None and fingerprint(kept) == fingerprint(trainer.model)
    print(f"@{starts[0]}|{Path(best).name if best else None}|{equal}|{took_s}")


def import_trainer() -> None:
    """Import it once, for all processes that are forked from this one."""
    assert library("transformers").Trainer is not None


def trainer(side: Side) -> None:
    """The Trainer finds its best checkpoint, resumes at its last one, and keeps as many steps as it was told to."""
    run_folder, served = side.target / "run", side.served / "run"
    import_trainer()
    for title, steps, resumes in RUNS:
        said = again(__name__, "train", run_folder, steps, side.seal_s, resumes, "tiny")
        start, best, equal, _ = printed(said)[0].split("|")
        side.note(f"{title}: starts at step", start)
        for number, found in enumerate(map(json.loads, printed(said, "saved:")), 1):
            steps_kept = sorted({name.split("/")[0] for name in found if "checkpoint" in name})
            side.note(f"{title}: save {number}", f"{', '.join(steps_kept)}: {len(found)} files, {digest(found)}")
        side.note(f"{title}: best checkpoint", best)
        side.note(f"{title}: ends with the best weights", equal)
        side.note(f"{title}: steps where it writes", [name for name in names(run_folder) if "checkpoint" in name])
        side.outlast_linger()
        side.note(
            f"{title}: steps served",
            sorted((name for name in names(served) if "checkpoint" in name), key=lambda name: int(name[11:])),
            promised=[f"checkpoint-{step}" for step in range(STEPS_TO_SAVE, steps + 1, STEPS_TO_SAVE)],
        )
    last = f"checkpoint-{RUNS[-1][1]}"
    side.note("last step: served files", names(served / last))
    side.note("last step: loads", len(fingerprint(load_language_model(served / last))) == 12)
    if side.is_ingest:
        removed = run("rm", "-r", served / "checkpoint-2")
        gone = removed == "" and not (served / "checkpoint-2").exists()
        side.note("an old step can be removed", gone, promised=True)


def trainer_speed(side: Side) -> None:
    """How long the Trainer takes with ten checkpoints of 60 MB, in turns on the mount and on the disk beside it.

    That is two steps of a fraction of a second between two of them: few runs save so often.
    """
    took: dict[str, list[float]] = {"here": [], "disk": []}
    import_trainer()
    for number in range(SPEED_ROUNDS):
        for title, place in (("disk", side.scratch), ("here", side.target)):
            said = again(__name__, "train", place / f"run{number}", RUNS[-1][1], 0, "anew", "larger")
            took[title].append(float(printed(said)[0].split("|")[3]))
    ratios = sorted(disk / here for disk, here in zip(took["disk"], took["here"], strict=True))
    side.tell("seconds on the disk beside it", f"{sorted(took['disk'])[SPEED_ROUNDS // 2]:.2f}")
    side.tell("seconds", f"{sorted(took['here'])[SPEED_ROUNDS // 2]:.2f}")
    side.tell("of the disk's speed", " ".join(f"{ratio:.2f}" for ratio in ratios))
    for number in range(SPEED_ROUNDS):
        found = difference(tree(side.scratch / f"run{number}"), tree(side.target / f"run{number}"))
        side.note(f"run {number}: files as on the disk beside it", found)


def accelerate(side: Side) -> None:
    """accelerate rotates its states and loads one from where it is served."""
    torch, accelerate_ = library("torch"), library("accelerate")
    configuration = accelerate_.utils.ProjectConfiguration(
        project_dir=str(side.target / "acc"), automatic_checkpoint_naming=True, total_limit=2
    )
    accelerator = accelerate_.Accelerator(cpu=True, project_config=configuration)
    accelerate_.utils.set_seed(6)
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
    side.note("states where they are written", names(side.target / "acc" / "checkpoints"))
    side.wait_until_served()
    served = side.served / "acc" / "checkpoints"
    side.note("states served", names(served), promised=states)
    side.note("last state: files", names(served / states[-1]))
    accelerator.load_state(str(served / states[-2]))
    side.note("state before the last, loaded as served", sums.index(fingerprint(model)))
    accelerator.load_state()
    side.note("last state that accelerate finds itself", sums.index(fingerprint(model)))


def gpt_loop(path: str, steps: str, pause_s: str) -> None:
    """The loop of nanoGPT: resume from ckpt.pt if it is there, and save over it. In a process of its own."""
    torch = library("torch")
    torch.manual_seed(20)
    model = torch.nn.Sequential(torch.nn.Embedding(500, 200), torch.nn.Linear(200, 500))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    start = 0
    if os.path.exists(path):
        found = torch.load(path, map_location="cpu", weights_only=False)
        model.load_state_dict(found["model"])
        optimizer.load_state_dict(found["optimizer"])
        start = found["iter_num"]
    for number in range(start + 1, start + int(steps) + 1):
        rows = (torch.arange(16) * number) % 500
        torch.nn.functional.cross_entropy(model(rows), rows).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        # `mark` tells a reader whether what it loaded is of one save.
        checkpoint = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "iter_num": number}
        torch.save({**checkpoint, "mark": torch.full((100_000,), number)}, path)
        time.sleep(float(pause_s))
    print(f"@{start} {start + int(steps)} {fingerprint(model)}")


def gpt_reader(path: str) -> None:
    """Load a checkpoint that is saved over all the time. Prints steps that were whole, and how many were mixed."""
    torch = library("torch")
    steps, mixed = set(), 0
    while not is_told_to_end():
        try:
            found = torch.load(path, weights_only=False)
        except Exception:  # noqa: BLE001  # what is half written fails in many ways, on any disk
            time.sleep(0.01)
            continue
        mixed += bool((found["mark"] != found["iter_num"]).any())
        steps.add(found["iter_num"])
    print(f"{max(steps)} {mixed}")


def nanogpt(side: Side) -> None:
    """torch.save of ckpt.pt over itself, resumed twice, while another process loads it all the time."""
    torch, out = library("torch"), side.target / "out"
    out.mkdir()
    path = out / "ckpt.pt"
    for turn in (1, 2, 3):
        with beside(__name__, "gpt_reader", path) as seen:
            said = again(__name__, "gpt_loop", path, 4, side.seal_s / 2)
            side.until(lambda: "ckpt.pt" in names(out), "the checkpoint")
            time.sleep(1)
        side.note(f"process {turn}: from, to, weights", printed(said)[0])
        side.note(f"process {turn}: last step that a reader saw", seen[-1].split()[0])
        side.tell(f"process {turn}: loads that were half of one save, half of another", seen[-1].split()[1])
        side.wait_until_served()
        side.note(f"process {turn}: as served", torch.load(side.served / "out" / "ckpt.pt")["iter_num"])
    side.note("names", names(out))


def lightning_fit(folder: str, epochs: str, resumes: str, pause_s: str) -> None:
    """A run of Lightning's Trainer with its ModelCheckpoint. In a process of its own."""
    torch = library("torch")
    lightning_: Any = library("lightning")
    lightning_.seed_everything(21, verbose=False)
    saves: list[Mapping[str, str]] = []

    class Model(lightning_.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(200, 200)

        def training_step(self, batch: Any, _: int) -> Any:
            # By the third epoch it is best; those after it get worse.
            self.log("score", float((self.current_epoch - 2) ** 2))
            return self.layer(batch[0]).pow(2).mean()

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters())

    class Pausing(lightning_.Callback):  # type: ignore[misc]
        def on_train_epoch_end(self, *_: Any) -> None:
            saves.append(dict.fromkeys(tree(Path(folder)), ""))
            time.sleep(float(pause_s))

    checkpoints = lightning_.pytorch.callbacks.ModelCheckpoint(
        dirpath=folder, filename="{epoch}", monitor="score", save_top_k=2, save_last="link"
    )
    rows = torch.utils.data.TensorDataset(torch.linspace(0, 1, 3200).reshape(16, 200))
    fitted = lightning_.Trainer(
        accelerator="cpu",
        max_epochs=int(epochs),
        callbacks=[checkpoints, Pausing()],
        logger=lightning_.pytorch.loggers.CSVLogger(folder, name="log", version=0),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    model = Model()
    last = f"{folder}/last.ckpt" if resumes == "resumes" else None
    fitted.fit(model, torch.utils.data.DataLoader(rows, batch_size=8), ckpt_path=last)
    for found in saves:
        print(f"saved:{' '.join(sorted(found))}")
    print(f"@{fitted.current_epoch} best {Path(checkpoints.best_model_path).name} {fingerprint(model)}")


def lightning(side: Side) -> None:
    """ModelCheckpoint keeps the best two and a link to the last, over a resume."""
    folder = side.target / "lit"
    side.varying = ("lit/*.ckpt",)  # they hold where they lie
    assert library("lightning") is not None  # imported once, for both processes
    for title, epochs, resumes in (("fit", 4, "anew"), ("resumed", 6, "resumes")):
        said = again(__name__, "lightning_fit", folder, epochs, resumes, side.seal_s)
        for number, found in enumerate(printed(said, "saved:"), 1):
            side.note(f"{title}: epoch {number}", found)
        side.note(f"{title}: end", printed(said)[0])
        side.outlast_linger()
        side.note(f"{title}: names in the end", names(folder))
        weights = library("torch").load(folder / "last.ckpt", weights_only=False)["state_dict"]
        side.note(f"{title}: weights of last.ckpt", fingerprint_of(weights))


def orbax_steps(folder: str, count: str, pause_s: str) -> None:
    """Save steps with orbax's CheckpointManager, from the last one that is there. In a process of its own."""
    numpy, checkpoint = library("numpy"), library("orbax.checkpoint")
    options = checkpoint.CheckpointManagerOptions(max_to_keep=2)
    with checkpoint.CheckpointManager(folder, options=options) as manager:
        last = manager.latest_step()
        state = {"w": numpy.zeros((300, 400), numpy.float32), "step": numpy.zeros((), numpy.int32)}
        if last is not None:
            state = manager.restore(last, args=checkpoint.args.StandardRestore(state))
        print(f"@from {last}: {float(numpy.asarray(state['w']).sum())}")
        for number in range((last or 0) + 1, (last or 0) + int(count) + 1):
            state = {"w": numpy.asarray(state["w"]) + number, "step": numpy.int32(number)}
            manager.save(number, args=checkpoint.args.StandardSave(state))
            manager.wait_until_finished()
            time.sleep(float(pause_s))
            print(f"@{manager.all_steps()}")


def orbax(side: Side) -> None:
    """orbax keeps two steps and resumes at the last one in another process."""
    folder = side.target / "orbax"
    side.varying = ("orbax/*",)
    for turn in (1, 2, 3):
        said = printed(again(__name__, "orbax_steps", folder, 3, side.seal_s))
        for number, line in enumerate(said):
            side.note(f"process {turn}: {number or 'start'}", line)
        side.note(f"process {turn}: names", names(folder))
        side.wait_until_served()


def tensorboard(side: Side) -> None:
    """Event files that a writer appends to are read at each step, and by a second writer's side."""
    tensorboard_ = library("torch.utils.tensorboard")
    reading = library("tensorboard.backend.event_processing.event_accumulator")
    folder = side.target / "tb"
    side.varying = ("tb/*",)
    step = 0
    for turn in (1, 2):
        with tensorboard_.SummaryWriter(log_dir=str(folder), flush_secs=1) as writer:
            for _ in range(3):
                for _ in range(20):
                    step += 1
                    writer.add_scalar("loss", 1 / step, step)
                writer.flush()
                side.seal_pause()
                found = reading.EventAccumulator(str(folder))
                found.Reload()
                side.note(f"writer {turn}, step {step}: scalars read", len(found.Scalars("loss")))
    side.wait_until_served()
    found = reading.EventAccumulator(str(side.served / "tb"))
    found.Reload()
    side.note("as served", [scalar.step for scalar in found.Scalars("loss")] == list(range(1, step + 1)))
