"""The token of ``--token-file`` for browsers: a cookie stands for it, which no script can read."""

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from widemax.serving.bodies import Body
from widemax.serving.guard import check_token, cookie_name, cookie_of
from widemax.serving.replies import ForbiddenError, Reply

session = APIRouter(prefix="/v1/session", tags=["session"])


class SignIn(Body):
    """The token of the server."""

    token: Annotated[str, Field(max_length=1000)]


@session.post("")
def sign_in(given: SignIn, request: Request) -> Response:
    """Keep in a cookie that the token was brought, until the browser ends or another token is set.

    It is sent by pages of this server alone (``SameSite=Strict``), and over TLS alone where it came so.
    """
    token = request.app.state.settings.token
    if token is None:
        raise ForbiddenError("this server was started without --token-file, so nobody can sign in.")
    check_token(given.token, token)
    reply = Reply({"signed_in": True})
    secure = request.url.scheme == "https"
    reply.set_cookie(cookie_name(request), cookie_of(token), httponly=True, samesite="strict", secure=secure)
    return reply


@session.delete("")
def sign_out(request: Request) -> Response:
    """Forget the cookie."""
    reply = Reply({"signed_in": False})
    reply.delete_cookie(cookie_name(request), httponly=True, samesite="strict")
    return reply
