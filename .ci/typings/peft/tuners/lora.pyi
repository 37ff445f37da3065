from torch import nn

class LoraLayer:
    lora_A: nn.ModuleDict
    lora_B: nn.ModuleDict
