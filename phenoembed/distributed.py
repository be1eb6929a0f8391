"""Several processes, one training: what each of them does. They are started by ``torchrun``, and found by Lightning."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from phenoembed_store.errors import TrainingError

T = TypeVar("T")


def rank() -> int:
    """The number of this process, from 0; 0 where it is alone."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes ``torchrun`` started, on all nodes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(devices: int, nodes: int) -> Iterator[None]:
    """Meet the other processes of a training; nothing where it is the only one.

    Raises TrainingError where they are not as many as the settings say.
    """
    if world_size() != devices * nodes:
        raise TrainingError(
            f"{devices} device(s) on each of {nodes} node(s) need {devices * nodes} processes, not {world_size()}: "
            f"torchrun --nnodes {nodes} --nproc-per-node {devices} --no-python phenoembed train ..."
        )
    if world_size() == 1:
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if on_gpu else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def first_before_others(work: Callable[[], T]) -> T:
    """Do this in the first process, then in the others: they find what it has written."""
    if not dist.is_initialized():
        return work()
    done = work() if rank() == 0 else None
    dist.barrier()
    return work() if done is None else done


def only_first(work: Callable[[], T]) -> T:
    """Do this in the first process alone (whatever writes); every process gets its answer."""
    if not dist.is_initialized():
        return work()
    answer = [work() if rank() == 0 else None]
    dist.broadcast_object_list(answer, 0)
    return answer[0]  # type: ignore[return-value]


def share_buffers(module: nn.Module) -> None:
    """Batch-norm statistics are each process's own while training; from now on those of the first are everyone's."""
    if dist.is_initialized():
        for buffer in module.buffers():
            dist.broadcast(buffer, 0)
