"""The Flower ClientApp of a participant: the same for a merchant, a device, and a cohort of them in simulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from client import stages, work
from client.charging import AlreadyAnswered, CapReached, PriceRefused, reserve
from client.cohort import Cohort, cohort_at, home_of
from client.public import check_public
from client.secure_party import Party, party_at
from client.sizes import check_sizes, memory_of_machine
from client.versions import VersionRefused, take_version
from client.whole import whole
from privacy.errors import (
    CertificateError,
    ManifestError,
    QuotaExceeded,
    SecureAggregationError,
)
from privacy.failpoints import passed
from privacy.federation_identity import IdentityError, node_identity, release_signers
from privacy.secagg.messages import Masked
from privacy.secagg.messages import Message as SecureMessage
from proto.federation import (
    CONTRIBUTION,
    MASKED,
    PUBLIC,
    REASON,
    RECEIPT,
    REFUSAL,
    SECURE,
    TASK,
    Phase,
    Receipt,
    Task,
    WireError,
    layout_of,
)
from proto.question import question_hash
from proto.versions import VERSION, WEIGHTS, VersionOffer

REGISTRY = "registry"
"""Folder of model versions in a node's data folder."""

REFUSALS = (
    WireError,
    QuotaExceeded,
    AlreadyAnswered,
    CapReached,
    PriceRefused,
    CertificateError,
    IdentityError,
    ManifestError,
    SecureAggregationError,
)
"""What is an answer with its reason; everything else is a failure of the node."""

app = ClientApp()


@app.train("counts")
def counts(message: Message, context: Context) -> Message:
    """Answer with the item counts of each unit."""
    return _answer(message, context, stages.counts)


@app.train("gram")
def gram(message: Message, context: Context) -> Message:
    """Answer with the Gram triangle of each unit."""
    return _answer(message, context, stages.gram)


@app.train("subspace")
def subspace(message: Message, context: Context) -> Message:
    """Answer with the Gram triangle of each unit inside the public basis."""
    return _answer(message, context, stages.subspace)


@app.train("baskets")
def baskets(message: Message, context: Context) -> Message:
    """Answer with the moment of what is taken together, summed over all units."""
    return _answer(message, context, stages.baskets)


@app.train("gradient")
def gradient(message: Message, context: Context) -> Message:
    """Answer with the clipped gradient summed over all units."""
    return _answer(message, context, stages.gradient)


@app.train("fusion")
def fusion(message: Message, context: Context) -> Message:
    """Answer with what histories teach the surfaces, summed over all units."""
    return _answer(message, context, stages.fusion)


@app.query(Phase.ADVERTISE)
def advertise(message: Message, context: Context) -> Message:
    """Answer an invitation to a secure round with fresh keys."""
    return _protocol(Phase.ADVERTISE, message, context)


@app.query(Phase.SHARE)
def share(message: Message, context: Context) -> Message:
    """Answer everybody's keys with shares of one's own secrets."""
    return _protocol(Phase.SHARE, message, context)


@app.query(Phase.CONFIRM)
def confirm(message: Message, context: Context) -> Message:
    """Answer the list of those who contributed with a signature over it."""
    return _protocol(Phase.CONFIRM, message, context)


@app.query(Phase.UNMASK)
def unmask(message: Message, context: Context) -> Message:
    """Answer enough signatures with the shares that unmask the sum."""
    return _protocol(Phase.UNMASK, message, context)


@app.query(VERSION)
def version(message: Message, context: Context) -> Message:
    """Keep a model version that the coordinator has signed, and answer with its name."""
    try:
        kept = _kept_version(message, context)
        content = RecordDict({VERSION: ConfigRecord({VERSION: kept})})
    except (*REFUSALS, VersionRefused) as refusal:
        content = RecordDict({REFUSAL: ConfigRecord({REASON: str(refusal)})})
    return Message(content, reply_to=message)


def _kept_version(message: Message, context: Context) -> str:
    """Return the version that was verified and is now in this node's registry; the run has no say in where."""
    kit, data = (context.node_config.get(word) for word in ("kit", "data"))
    if kit is None or data is None:
        raise WireError("this node has no kit to keep model versions with; start it from one")
    offer = VersionOffer.from_record(message.content.config_records[VERSION])
    weights = {name: array.numpy() for name, array in message.content.array_records[WEIGHTS].items()}
    take_version(
        offer,
        weights,
        registry=Path(str(data)) / REGISTRY,
        signers=release_signers(Path(str(kit))),
        federation=node_identity(Path(str(kit))).federation.federation,
    )
    return offer.version


def _protocol(phase: Phase, message: Message, context: Context) -> Message:
    """Answer a phase of secure aggregation; a refusal is an answer with the reason."""
    try:
        answer = _needed(_party(context)).answer(phase, message.content.config_records[SECURE])
        content = RecordDict({SECURE: _record(answer)})
        passed(f"phase: {phase} answered")
    except REFUSALS as refusal:
        content = RecordDict({REFUSAL: ConfigRecord({REASON: str(refusal)})})
    return Message(content, reply_to=message)


def _party(context: Context) -> Party | None:
    """Return who this node is in its federation; in simulation it may be nobody. The run has no say in it."""
    folder = context.node_config.get("kit", context.node_config.get("identity"))
    return None if folder is None else party_at(str(folder))


def _needed(party: Party | None) -> Party:
    if party is None:
        raise WireError(
            "this node has no identity to take part in secure aggregation with; start it from a kit"
        )
    return party


def _checked_party(context: Context, task: Task, message: Message, participants: int) -> Party | None:
    """Return this node's party after it has checked the task, and taken the others' shares where it is secure."""
    party = _party(context)
    if task.secure:
        _needed(party)
    if party is not None:
        records = message.content.config_records
        party.check(task, records.get(SECURE), participants)
    return party


def _record(message: SecureMessage) -> ConfigRecord:
    return ConfigRecord({**message.to_record()})


def _answer(message: Message, context: Context, compute: stages.Work) -> Message:
    """Check the question, charge the shoppers, then compute; a refusal is an answer with the reason.

    What is refused depends on the question and on accounts, never on what a shopper did.
    """
    task = Task.from_record(message.content.config_records[TASK])
    work.loss_of(task)  # before anything is charged
    work.basket_kinds_of(task)
    layout_of(task)
    public = _public(message)
    cohort = cohort_at(home_of(context.node_config, context.run_config))
    try:
        _check_question(task, message, public)
        party = _checked_party(context, task, message, cohort.participants)
        check_public(task.stage, public, len(cohort.catalogue), cohort.units)
        check_sizes(task, cohort, public, memory_of_machine)
        passed("answer: before charge")
        charges = reserve(task, cohort)
        passed("answer: after charge")
    except REFUSALS as refusal:
        return _reply(message, task, cohort, RecordDict(), str(refusal))
    content = _leaving(task, party, _parts(task, cohort, public, compute, party))
    passed("answer: computed")
    for charge in charges:
        cohort.ledger.commit(charge.release_id, charge.holder)
    passed("answer: before reply")
    return _reply(message, task, cohort, content)


def _check_question(task: Task, message: Message, public: stages.Public) -> None:
    """Refuse another question than the one that is checked, charged and signed for.

    Under masks it must be everybody's: where the answers of the others are known beforehand, the sum is one's own.
    """
    asked = message.metadata.message_type
    if asked != f"train.{task.stage}":
        raise WireError(
            f"a question {asked!r} came with a task of stage {task.stage!r}; they must be the same"
        )
    if task.secure and question_hash(task, public) != task.model_hash:
        raise WireError(
            f"the question of round {task.round} ({task.stage}) is not the one that its manifest names; somebody was "
            "asked something else than the others"
        )


def _parts(
    task: Task, cohort: Cohort, public: stages.Public, compute: stages.Work, party: Party | None
) -> stages.Parts:
    """Return what leaves of a cohort: no more than it declared, with its noise."""
    if not cohort.units:
        return {}
    parts = compute(task, cohort, public)
    return whole(task, cohort, public, parts if party is None else party.within_declared(task, parts))


def _leaving(task: Task, party: Party | None, parts: stages.Parts) -> RecordDict:
    """Return a contribution as it leaves: under masks, or in the open."""
    if not parts:
        return RecordDict()
    if task.secure and party is not None:
        return under_masks(party.masked(task, parts))
    return RecordDict({CONTRIBUTION: ArrayRecord({name: Array(value) for name, value in parts.items()})})


def under_masks(masked: Masked) -> RecordDict:
    """Return a masked contribution as it travels: its bytes as an array, which Flower cuts into pieces."""
    content = ArrayRecord({MASKED: Array(np.frombuffer(masked.content, np.uint8))})
    return RecordDict({SECURE: ConfigRecord({"signature": masked.signature}), MASKED: content})


def _public(message: Message) -> dict[str, NDArray[np.generic]]:
    records = message.content.array_records
    return {name: array.numpy() for name, array in records[PUBLIC].items()} if PUBLIC in records else {}


def _reply(message: Message, task: Task, cohort: Cohort, content: RecordDict, refused: str = "") -> Message:
    receipt = Receipt(
        release_id=task.release_id,
        stage=task.stage,
        round=task.round,
        model_hash=task.model_hash,
        participants=0 if refused else cohort.participants,
        refused=refused,
    )
    content[RECEIPT] = ConfigRecord(dict(receipt.to_record()))
    return Message(content, reply_to=message)
