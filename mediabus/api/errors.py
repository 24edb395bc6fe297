"""The exceptions that a request to an operation raises."""

from mediabus.schemas.operations.requests import Problem


class NoAnswer(Exception):
    """No service answered a request in time. The operation may still have happened.

    Repeat the request with the same ``idempotency_key``: then it happens once.

    >>> async with mediabus.connect(actor=mediabus.Actor("user", "42")) as bus:
    ...     for _ in range(3):
    ...         try:
    ...             await bus.media.create(title="Dune", year=2021, idempotency_key="add-dune")
    ...             break
    ...         except mediabus.NoAnswer as error:
    ...             print("again:", error)
    """


class OperationFailed(Exception):
    """A service refused an operation, and nothing changed. The message says what to do.

    ``code`` is that of HTTP (400, 404, 409, 500, 502, 503), ``reason`` is a constant for programs,
    and ``field`` names the invalid argument, if any.

    >>> async with mediabus.connect() as bus:
    ...     try:
    ...         await bus.media.create(type="movie", title="Dune")
    ...     except mediabus.OperationFailed as error:
    ...         print(error.code, error.field)
    400 year
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.code = problem.code
        self.reason = problem.reason
        self.field = problem.field
