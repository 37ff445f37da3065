from torch import Tensor

class Output:
    last_hidden_state: Tensor
    def __getitem__(self, key: str) -> Tensor: ...

class ClipVisionModel:
    def encode_image(self, image: Tensor, crop: bool = ...) -> Output: ...
