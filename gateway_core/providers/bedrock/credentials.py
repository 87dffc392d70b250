"""Who asks Bedrock, and where it is: from the configuration, and what that lacks from the environment.

Sources: "Configuration and credential file settings in the AWS CLI" for the names of the variables,
https://docs.aws.amazon.com/bedrock/latest/userguide/api-keys-use.html for AWS_BEARER_TOKEN_BEDROCK, and
https://docs.aws.amazon.com/general/latest/gr/bedrock.html for the hosts.
"""

from collections.abc import Mapping

from pydantic import SecretStr

from gateway_core.config import AwsConfig, ProviderConfig
from gateway_core.upstream.signature import Credentials, Signer

SERVICE = "bedrock"


def resolved(name: str, config: ProviderConfig, environment: Mapping[str, str]) -> ProviderConfig:
    """A provider's row with its base URL and its keys, wherever they come from.

    Keys of the configuration come before those of the environment, a Bedrock API key before keys that sign. Raises
    ValueError where there are none.
    """
    aws = config.aws or AwsConfig()
    region = aws.region or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    api_key = config.api_key
    if api_key is None and aws.access_key_id is None and not has_authorization(config):
        if bearer := environment.get("AWS_BEARER_TOKEN_BEDROCK"):
            api_key = SecretStr(bearer)
        else:
            aws = of_environment(environment)
            if aws.access_key_id is None:
                raise ValueError(f"providers.{name}: needs api_key, or aws.access_key_id and aws.secret_access_key")
    if not region and (config.base_url is None or (api_key is None and not has_authorization(config))):
        raise ValueError(f"providers.{name}: needs aws.region")
    aws = AwsConfig.model_validate({**dict(aws), "region": region or None})
    return config.model_copy(
        update={"aws": aws, "api_key": api_key, "base_url": config.base_url or base_url(region or "")}
    )


def of_environment(environment: Mapping[str, str]) -> AwsConfig:
    """The environment's keys, if it has any."""
    identity, secret = environment.get("AWS_ACCESS_KEY_ID"), environment.get("AWS_SECRET_ACCESS_KEY")
    if not (identity and secret):
        return AwsConfig()
    token = environment.get("AWS_SESSION_TOKEN")
    return AwsConfig(
        access_key_id=SecretStr(identity),
        secret_access_key=SecretStr(secret),
        session_token=SecretStr(token) if token else None,
    )


def base_url(region: str) -> str:
    """Where Bedrock is in a region."""
    return f"https://bedrock-runtime.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def has_authorization(config: ProviderConfig) -> bool:
    """Whether the configuration says itself what authorizes."""
    return "authorization" in {field.lower() for field in config.headers}


def headers(config: ProviderConfig) -> dict[str, str]:
    """The headers of every request to a provider whose row is resolved."""
    found = {field.lower(): secret.get_secret_value() for field, secret in config.headers.items()}
    if config.api_key is not None:
        found.setdefault("authorization", f"Bearer {config.api_key.get_secret_value()}")
    return found


def signer(config: ProviderConfig) -> Signer | None:
    """What signs requests to a provider whose row is resolved; None: a header authorizes them."""
    aws = config.aws
    if aws is None or aws.region is None or aws.access_key_id is None or aws.secret_access_key is None:
        return None
    if config.api_key is not None or has_authorization(config):
        return None
    token = aws.session_token.get_secret_value() if aws.session_token else None
    keys = Credentials(aws.access_key_id.get_secret_value(), aws.secret_access_key.get_secret_value(), token)
    return Signer(keys, aws.region, SERVICE)
