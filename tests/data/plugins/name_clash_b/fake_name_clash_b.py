from ecco_core import AnalysisSpec, hookimpl


@hookimpl
def ecco_analyses():
    return [AnalysisSpec(name="norms_clash", summary="Claimed by two, this is b", target="fake_name_clash_b:run")]


def run(ctx):
    return "fake_name_clash_b"
