from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from execution import PromptQueue

_Handler = TypeVar("_Handler", bound=Callable[..., Any])

class _Routes:
    def get(self, path: str) -> Callable[[_Handler], _Handler]: ...
    def post(self, path: str) -> Callable[[_Handler], _Handler]: ...

class PromptServer:
    instance: PromptServer
    routes: _Routes
    prompt_queue: PromptQueue
    client_id: str | None
    sockets_metadata: dict[str, Any]
    def send_sync(self, event: str, data: Mapping[str, Any] | tuple[Any, ...], sid: str | None = ...) -> None: ...
