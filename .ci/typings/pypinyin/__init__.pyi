class Style:
    FINALS_TONE3: Style
    INITIALS: Style
    TONE3: Style

def lazy_pinyin(hans: str, style: Style = ..., *, strict: bool = ...) -> list[str]: ...
