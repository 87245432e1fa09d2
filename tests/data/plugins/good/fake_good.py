from ecco_core import AnalysisSpec, hookimpl


@hookimpl
def ecco_analyses():
    return [AnalysisSpec(name="good_analysis", summary="Works", target="fake_good:run")]


def run(ctx):
    return "fake_good"
