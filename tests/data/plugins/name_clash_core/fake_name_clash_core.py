from ecco_core import AnalysisSpec, hookimpl


@hookimpl
def ecco_analyses():
    return [AnalysisSpec(name="integrated_gradients", summary="Claims a name of ours", target="fake_name_clash_core:run")]


def run(ctx):
    return "fake_name_clash_core"
