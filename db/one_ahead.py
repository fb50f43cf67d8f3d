"""Parts of a work, the next of which is made while one is used."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Part = TypeVar("Part")


class OneAhead(Generic[Part]):
    """The parts of an iterator, drawn from it by a thread, one before it is asked for; none of them is None.

    error: what has gone wrong in making them, which is raised to who asks.
    """

    def __init__(self, maker: ThreadPoolExecutor, parts: Iterator[Part]):
        self.maker, self.parts, self.error = maker, parts, None
        self.making = maker.submit(next, parts, None)

    def __iter__(self) -> "OneAhead[Part]":
        return self

    def __next__(self) -> Part:
        try:
            part = self.making.result()
        except Exception as error:
            self.error = error
            raise
        if part is None:
            raise StopIteration
        self.making = self.maker.submit(next, self.parts, None)
        return part
