"""What fedrank replaces or relies on inside Flower is there, in the version that it is pinned to."""

from __future__ import annotations

import importlib
import inspect
import io
import tomllib
import zipfile
from importlib.metadata import requires, version

from flwr.common import constant
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.inflatable import inflatable_utils
from flwr.superlink import main as superlink
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.node_connection import HEARTBEAT_SECONDS
from proto.federation import INLINE_BYTES
from server.coordination import superlink_process
from server.coordination.bundle import RUN, bundle
from server.coordination.fleet_proxy import LARGE, LARGEST_BODY

connection = importlib.import_module("flwr.supernode.fleet_http_connection")
retry = importlib.import_module("flwr.supercore.retry")
heartbeat = importlib.import_module("flwr.supercore.heartbeat")


def test_flower_is_pinned_to_one_version() -> None:
    """Internals are used, so no other version may come in by itself."""
    pinned = [word for word in requires("fedrank") or () if word.startswith("flwr==")]
    assert pinned == [f"flwr=={version('flwr')}"]


def test_the_names_that_a_node_replaces_are_there() -> None:
    """Connection and heartbeats take what stands in their modules when they are called."""
    assert connection.FleetHttpClient is FleetHttpClient
    assert connection.HEARTBEAT_DEFAULT_INTERVAL == heartbeat.HEARTBEAT_DEFAULT_INTERVAL == 30
    assert constant.HEARTBEAT_MIN_INTERVAL <= HEARTBEAT_SECONDS
    assert "remove_content_from_message(message)" in inspect.getsource(connection.http_request_response)
    assert "FleetHttpClient" in inspect.getsource(connection.http_request_response)
    assert "HEARTBEAT_DEFAULT_INTERVAL" in inspect.getsource(heartbeat.HeartbeatSender._run)


def test_the_pauses_of_a_connection_can_be_replaced() -> None:
    """It makes its invoker by this name, and the invoker waits by this one."""
    source = inspect.getsource(connection.http_request_response)
    assert "retry_invoker = make_simple_http_retry_invoker()" in source
    assert callable(retry.make_simple_http_retry_invoker().wait_function)
    assert "self.wait_function(" in inspect.getsource(retry.RetryInvoker.invoke)


def test_the_connection_takes_and_gives_what_a_node_expects() -> None:
    """Four arguments by position; eight things by the end of the line."""
    parameters = list(inspect.signature(connection.http_request_response).parameters)
    assert parameters[:4] == ["server_address", "insecure", "root_certificates", "authentication_keys"]
    given = inspect.getsource(connection.http_request_response).split("yield (")[1].split(")")[0]
    assert [word.strip() for word in given.split(",") if word.strip()] == [
        "node.node_id",
        "receive",
        "send",
        "get_run",
        "get_fab",
        "pull_object",
        "push_object",
        "confirm_message_received",
    ]


def test_the_pause_before_a_second_look_can_be_set() -> None:
    """Flower's own is a second."""
    for pull in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        assert {"initial_backoff", "backoff_cap"} <= set(pull.__kwdefaults__ or {})


def test_the_superlinks_layers_are_those_that_are_known() -> None:
    """What is left out is there, and what guards the calls of nodes and of executors stays."""
    names = {superlink_process.name_of(layer) for layer in superlink._get_middleware()}
    assert names - superlink_process.UNUSED == {
        "BaseHTTPMiddleware",
        "ControlAuthenticationMiddleware",
        "ProtobufTranslationMiddleware",
        "NodeAuthMiddleware",
    }
    assert names >= superlink_process.UNUSED


def test_the_superlinks_bookkeeping_can_be_replaced() -> None:
    """Both take the state alone, or anything, and return nothing that is used."""
    assert list(inspect.signature(SqlLinkState._cleanup_expired_task_tokens).parameters) == ["self"]
    assert inspect.signature(SqlLinkState.store_traffic).return_annotation is None


def test_what_is_seldom_done_is_done_at_most_once_in_its_time() -> None:
    """Whoever asks first does it for everybody."""
    clock, done = [0.0], list[float]()
    clean = superlink_process.seldom(done.append, 1.0, lambda: clock[0])
    for moment in (0.0, 0.5, 0.999, 1.0, 1.5, 7.0):
        clock[0] = moment
        clean(moment)
    assert done == [0.0, 1.0, 7.0]


def test_the_proxy_knows_every_call_of_a_node_but_registration() -> None:
    """A call that Flower adds would be refused by the proxy, and noticed here first."""
    source = inspect.getsource(FleetHttpClient)
    calls = {
        line.split("/v1/fleet/")[1].split('"')[0] for line in source.splitlines() if "/v1/fleet/" in line
    }
    assert calls - {"register-node", "unregister-node"} == set(LARGEST_BODY)
    assert max(constant.FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE, INLINE_BYTES) < LARGE
    assert (FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER) == (
        "flwr-public-key",
        "flwr-signature",
    )


def test_a_bundle_holds_no_code_and_names_a_run_alone() -> None:
    """What goes to every merchant's machine is a project file without settings of the coordinator."""
    with zipfile.ZipFile(io.BytesIO(bundle())) as archive:
        assert sorted(archive.namelist()) == [".info/CONTENT", "pyproject.toml"]
        project = tomllib.loads(archive.read("pyproject.toml").decode())
    assert project["tool"]["flwr"]["app"]["config"] == {RUN: ""}
