"""Cases of try_clients: programs that save models, and load them from where they are served."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import time

from tools.clients.models import fingerprint, fingerprint_of, language_model, library, load_language_model, whose
from tools.clients.side import LINGER_S, ROOT, Side, names, run


def save_again(side: Side) -> None:
    """A model that was removed and saved anew is the new one, with no file of the old one beside it."""
    one, other = language_model(1), language_model(2)
    known = {"the old": fingerprint(one), "the new": fingerprint(other)}
    target, served = side.target / "x", side.served / "x"
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
    target, served = side.target / "org" / "y", side.served / "org" / "y"
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


def script(side: Side) -> None:
    """A directory that a job made once stays its own, however long it pauses; so does one that a shell stands in."""
    torch = library("torch")
    out = side.target / "out"
    out.mkdir()
    side.pause(side.quiet_s + LINGER_S + 3)
    for number in (1, 2):
        torch.save({"step": number, "weights": torch.full((300_000,), float(number))}, out / "ckpt.pt")
        side.outlast_linger()
        found = torch.load(side.served / "out" / "ckpt.pt", weights_only=True)
        side.note(f"save {number}: served step", (found["step"], float(found["weights"].sum())))
        side.note(f"save {number}: directory", names(out))
    program = f"""
        mkdir run2 && cd run2 && echo a >first && sleep {side.quiet_s + LINGER_S + 3 if side.is_mount else 0}
        echo b >second && mkdir deeper && echo c >deeper/third && cat first second deeper/third && ls -C
        mkdir -p ../run2/deeper/again && mv second renamed && ls -C
    """
    side.note("shell in a directory", run("bash", "-c", textwrap.dedent(program), cwd=side.target, check=False))
    side.wait_until_served()
    side.note("shell in a directory: served", names(side.served / "run2"))


def torch_files(side: Side) -> None:
    """What PyTorch, safetensors and peft save is loaded from where it is served."""
    torch, safetensors = library("torch"), library("safetensors.torch")
    side.varying = ("legacy.pt",)  # it holds addresses
    torch.manual_seed(7)
    tensors = {"a": torch.randn(500, 400), "b": torch.arange(9), "c": torch.randn(100).to(torch.bfloat16)}
    print_ = fingerprint_of(tensors)
    torch.save(tensors, side.target / "zip.pt")
    torch.save(tensors, side.target / "legacy.pt", _use_new_zipfile_serialization=False)
    safetensors.save_file(tensors, side.target / "m.safetensors")
    side.wait_until_served()
    for name, mmap in (("zip.pt", False), ("zip.pt", True), ("legacy.pt", False)):
        found = torch.load(side.served / name, mmap=mmap, weights_only=True)
        side.note(f"torch.load {name}{' mmap' if mmap else ''}", fingerprint_of(found) == print_)
    found = safetensors.load_file(side.served / "m.safetensors")
    side.note("safetensors load_file", fingerprint_of(found) == print_)
    torch.save({"a": torch.zeros(5)}, side.target / "zip.pt")
    side.wait_until_served()
    side.note("saved over: torch.load", torch.load(side.served / "zip.pt")["a"].tolist())


def adapters(side: Side) -> None:
    """An adapter of peft, saved beside its base, is loaded onto the served base."""
    torch, peft = library("torch"), library("peft")
    base = language_model(8, layers=2, width=64)
    base.save_pretrained(side.target / "base")
    torch.manual_seed(9)
    tuned = peft.get_peft_model(base, peft.LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False))
    tuned.save_pretrained(side.target / "base-lora")
    side.wait_until_served()
    side.note("files", names(side.served / "base-lora"))
    found = peft.PeftModel.from_pretrained(
        load_language_model(side.served / "base"), str(side.served / "base-lora"), local_files_only=True
    )
    side.note("weights", fingerprint(found) == fingerprint(tuned))
    merged = found.merge_and_unload()
    merged.save_pretrained(side.target / "base-merged")
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
    from tools.clients.side import SETTINGS, ZIPFS, status

    if not side.is_mount:
        return
    side.expected_log = ("was being written when the mount ended",)
    torch = library("torch")
    target, served = side.target / "km" / "ckpt.pt", side.served / "km" / "ckpt.pt"
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
    run(ZIPFS, "mount", *SETTINGS["ingest"].options, side.store, side.served)
    time.sleep(side.quiet_s + 2)
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
