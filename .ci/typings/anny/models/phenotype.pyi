PHENOTYPE_VARIATIONS: dict[str, list[str]]
