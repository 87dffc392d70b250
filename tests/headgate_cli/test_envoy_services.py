"""What `headgate serve` tells an Envoy that asks, together and apart."""

from pathlib import Path

import pytest
from grpc import aio
from headgate.envoy.v1.authorization_pb2 import CheckRequest, CheckResponse

from tests.headgate_cli.program import serving


@pytest.mark.parametrize("part", [[], ["core"]])
async def test_a_refusal_has_the_words_of_the_dialect_wherever_the_bridge_is(tmp_path: Path, part: list[str]) -> None:
    config = tmp_path / "headgate.yaml"
    config.write_text("envoy_services: {authorization: true}\n")
    request = CheckRequest()
    http = request.attributes.request.http
    http.method = "POST"
    ports = ("--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0")
    async with serving(*part, *ports, "--config", str(config), home=tmp_path, last="gRPC") as served:
        async with aio.insecure_channel(served.grpc) as channel:
            check = channel.unary_unary(
                "/envoy.service.auth.v3.Authorization/Check",
                request_serializer=CheckRequest.SerializeToString,
                response_deserializer=CheckResponse.FromString,
            )
            bodies = []
            for path in ("/v1/chat/completions", "/api/chat"):
                http.path = path
                bodies.append((await check(request, timeout=10)).denied_response.body)
        served.terminate()
        assert await served.code() == 0
    assert bodies[0].startswith('{"error":{"message":"A key is needed')
    assert bodies[1].startswith('{"error":"A key is needed')
