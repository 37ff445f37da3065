from collections.abc import Iterator

class Seg:
    def cut(self, text: str) -> Iterator[str]: ...

seg: Seg
