from typing import Any

ec: Any
ed25519: Any
rsa: Any
