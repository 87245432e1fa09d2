"""Ecco: see why a Hugging Face transformer language model said what it said.

    import ecco_core as ecco

    lm = ecco.from_pretrained("tiny:prose")
    run = lm.generate("The captain is called Nora.", max_new_tokens=20)
    run.analyze("integrated_gradients", targets=[-1])

Every public name is imported when it is first used, so that ``import ecco_core`` costs next to nothing.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
