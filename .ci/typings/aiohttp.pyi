from collections.abc import Mapping
from typing import Any

class _Web:
    class Request:
        query: Mapping[str, str]
        async def json(self) -> Any: ...

    class Response:
        def __init__(self, *, body: bytes = ..., status: int = ..., content_type: str = ...) -> None: ...

    @staticmethod
    def json_response(data: Any, *, status: int = ...) -> Response: ...

web = _Web
