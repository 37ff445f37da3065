class Style:
    TONE3: Style

def lazy_pinyin(hans: str, style: Style = ...) -> list[str]: ...
