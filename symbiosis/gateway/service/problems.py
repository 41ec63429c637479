"""Errors as OpenAI's clients expect them: a status, and one message with its type and code."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from symbiosis.core.errors import InputError

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
    503: "unavailable_error",
}


class Problem(InputError):  # noqa: N818
    """A request that is answered with an error.

    Parameters
    ----------
    status
        Of the answer.
    message
        One line.
    code
        For programs.
    retry_after_s
        Seconds after which to try again, if that helps.
    """

    def __init__(self, status: int, message: str, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.retry_after_s = status, code, retry_after_s


def response(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return a problem in OpenAI's form."""
    kind = _TYPES.get(problem.status, "server_error" if problem.status >= 500 else "invalid_request_error")
    error = {"message": " ".join(str(problem).split()), "type": kind, "param": None, "code": problem.code}
    told = dict(headers or {})
    if problem.retry_after_s is not None:
        told["retry-after"] = str(max(1, round(problem.retry_after_s)))
    return JSONResponse({"error": error}, problem.status, told)
