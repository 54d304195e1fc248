"""Typing into the page of `ponder serve`."""

from pathlib import Path

from browser_page import started, watched
from playwright.sync_api import expect
from served import serving, tiny_run


def test_typing_draws_the_map(tmp_path: Path) -> None:
    with started() as chromium:
        run = tiny_run(tmp_path)
        # The browser itself tells its console of every refusal.
        with serving(run) as server, watched(chromium, server.url, "status of 400") as page:
            page.goto(server.url)
            own = page.locator(".sequence")
            expect(own).to_have_count(8)
            cells = page.locator("main .cell bdi")
            box = page.get_by_label("A text for the model to think about")
            assert (box.get_attribute("placeholder") or "").split() == run.task.decode(
                run.task.batch("test", 0, 1).tokens[0].tolist()
            )
            page.locator("#modes input[value=prediction]").check(force=True)
            box.press_sequentially("red →0 →1")
            expect(page.locator("#answer")).to_contain_text("3 tokens, ")
            expect(own).to_have_count(1)
            found = run.ponder_map("red →0 →1")
            assert found.predictions is not None
            assert cells.all_text_contents() == ["red", "→0", "→1"]
            said = [
                found.answer_text(int(found.predictions[0, place, found.steps[0, place] - 1]))
                for place in range(3)
            ]
            assert page.locator("main .cell span").all_text_contents() == said, (
                "the mode that was chosen stays"
            )
            expect(box).to_be_focused()
            box.fill("red </script><img src=x onerror=alert(1)>")
            expect(page.locator("#answer.refused")).to_contain_text("</script><img")
            assert cells.all_text_contents() == ["red", "→0", "→1"], (
                "the last map that could be drawn stays"
            )
            with server.turns.turn():  # the model is busy: the page waits and asks again
                box.fill("blue →0")
                expect(page.locator("#answer")).to_have_text("thinking …")
            expect(page.locator("#answer")).to_contain_text("2 tokens, ")
            assert cells.all_text_contents() == ["blue", "→0"]
            box.fill("")
            expect(own).to_have_count(8)
