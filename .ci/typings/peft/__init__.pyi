from torch import nn

class LoraConfig:
    def __init__(
        self,
        *,
        r: int = ...,
        lora_alpha: int = ...,
        target_modules: str | list[str] | None = ...,
        lora_dropout: float = ...,
    ) -> None: ...

def inject_adapter_in_model(peft_config: LoraConfig, model: nn.Module, adapter_name: str = ...) -> nn.Module: ...
