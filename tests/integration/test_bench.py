"""The benchmarks run: small, on real servers, without the peers."""

from bench import aims, apps, history, notify, operation_to_reply, stream_to_row, tracing


async def test_events_are_drained_into_rows() -> None:
    section = await stream_to_row.measure(300, 1, [aims.ONE])
    assert section.figures[aims.ONE].median > 0


async def test_an_operation_is_measured_with_and_without_its_event() -> None:
    section = await operation_to_reply.measure(20, 1)
    reached = [section.reached(aim) for aim in aims.AIMS if aim.section == aims.REPLY]
    assert len(reached) == 4
    assert None not in reached


async def test_pages_of_large_and_small_tables_are_compared() -> None:
    section = await history.measure(240, 2400, 5)
    reached = [section.reached(aim) for aim in aims.AIMS if aim.section == aims.HISTORY]
    assert len(reached) == 4
    assert None not in reached


async def test_a_dead_target_is_measured_next_to_live_ones() -> None:
    section = await notify.measure(20, least_speed=0.0)
    assert section.figures["each target, next to a dead one"].median > 0


async def test_the_past_of_an_application_is_imported() -> None:
    section = await apps.measure(40)
    assert section.figures["rows"].median > 0


async def test_equal_libraries_of_two_applications_become_one_item_each() -> None:
    section = await apps.measure_library(200)
    assert "200 items" in section.notes[0]


async def test_an_operation_is_measured_with_tracing_off_and_on() -> None:
    section = await tracing.measure(20, 1)
    cases = [f"{case}, CPU of an operation" for case in tracing.CASES]
    assert all(section.figures[case].median > 0 for case in cases)
    assert section.figures[tracing.EXPORTED].median > 0
