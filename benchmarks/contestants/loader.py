"""The loader of Telos alone: batches as the work's recipe makes them, in the training process.

settings    none of its own
"""

from contextlib import closing

from harness.worker_side import Session, Spec

from telos.batch import Place
from telos.data.corpus import Corpus
from telos.data.loader import steps
from telos.run import prepare

from .ours import described


def run(spec: Spec, session: Session) -> None:
    """Make batches until the process is ended; counted are places that hold a token, of source and target."""
    recipe = described(spec)
    prepared = prepare(recipe, spec.corpus["root"])
    train, objective, tokenizer = recipe.train, recipe.objective, prepared.tokenizer
    plan = train.plan(
        corpus=Corpus(prepared.shards("train"), objective.cut(train.window), tokenizer),
        objective=objective,
        tokenizer=tokenizer,
        seed=recipe.seed,
        gives=recipe.model.gives,
    )
    with closing(steps(plan, Place())) as source:
        for step in source:
            sides = [side for batch in step.batches for side in (batch.main, batch.source) if side]
            session.tick(sum(int((side.segment >= 0).sum()) for side in sides))
