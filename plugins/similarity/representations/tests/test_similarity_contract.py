from ecco_core.testing import AnalysisContract, invariances

LONG = (
    "The captain of this ship is called Nora and her old dog sleeps below",
    "A cook called Felix had a small room under the stairs with ten plates",
)
CHEAP = {"bootstrap": 20, "permutations": 3, "layers": [0, 1]}  # 20 is the least that there is an interval of
BARE = {"bootstrap": 0, "permutations": 0, "layers": [0, 1]}
ANY = {"rotated": invariances.rotated, "scaled": invariances.scaled, "shifted": invariances.shifted}


class TestMeasures(AnalysisContract):
    distribution = "ecco-similarity"
    options = CHEAP
    texts = LONG
    media = ("text/",)


class TestInvariancesOfCka(AnalysisContract):
    name = "cka"
    options = BARE
    texts = LONG
    invariances = ANY
    media = ()


class TestInvariancesOfProcrustes(AnalysisContract):
    name = "procrustes"
    options = BARE
    texts = LONG
    invariances = ANY
    media = ()
