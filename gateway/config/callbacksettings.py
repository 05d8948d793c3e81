"""The section `[callbacks]` of `dialmark.toml`; see `settingsections` for the conventions."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, SecretStr

from gateway.config.settingsections import OptionalFile, Section, Switch, Whole, Word, listed, secret_of
from gateway.core import callingback

Country = Annotated[str, Field(pattern=r"^[A-Z]{2}$")]


class Callbacks(Section):
    """How agents call customers back: by a code on the phone, or by a click. See docs/callbacks.md."""

    countries: Annotated[tuple[Country, ...], BeforeValidator(listed)] = Field(
        (),
        description='Countries that may be called back besides those of your sites and trunks: `["KZ", "BY"]`. A '
        "caller may have made up the number, to make you dial one that costs.",
    )
    any_agent: Switch = Field(False, description="Whether agents may return calls whose ticket is a colleague's.")
    keyed_result: Switch = Field(
        False, description="Whether the agent is asked for the result by keys when the customer has hung up."
    )
    click: Switch = Field(
        False, description="Whether page and API may begin call-backs. Needs the second account of `manager.conf`."
    )
    username: Word = Field(
        "dialmark-click", description="That account: write=originate, nothing else. Host and port are those of `ami`."
    )
    secret: SecretStr = Field(
        SecretStr(""), description="Its secret. Better as a credential `callbacks.secret` or in `secret_file`."
    )
    secret_file: OptionalFile = Field(
        None, description='File that holds the secret, if `secret` is empty; "" for none. Mode 0640 or stricter.'
    )
    ring_seconds: Annotated[Whole, Field(ge=5, le=120)] = Field(
        25, description="Seconds for which the agent's phone rings after a click."
    )

    def rules(self) -> callingback.Rules:
        """What of it the core decides by."""
        return callingback.Rules(frozenset(self.countries), self.any_agent, self.keyed_result, self.click)

    def password(self) -> str:
        """The secret, from here or from its file. Raises `SettingsErrors` when the file cannot be read."""
        return secret_of(self.secret, self.secret_file, "callbacks.secret_file")
