"""The clinician's way through the workbench, in a real browser, and what nobody may do there."""

from __future__ import annotations

from pathlib import Path

import httpx
import pydicom
import pytest
from playwright.sync_api import expect
from workbench_site import NODULE_SLICE, PASSWORD, TRAPS, Site, Visit

from app.accounts import Account, Scope
from app.signing import save_edit

pytestmark = pytest.mark.timeout(300)


def films_of(site: Site) -> list[Path]:
    return sorted(site.films.rglob("*.dcm"))


def pixels_of(visit: Visit) -> list[int]:
    """Some grey values of the current image, as the screen shows them."""
    script = """() => {
        const canvas = document.querySelector(".pane canvas");
        const row = canvas.getContext("2d").getImageData(0, canvas.height >> 1, canvas.width, 1).data;
        return Array.from(row).filter((_, at) => at % 4 === 0);
    }"""
    return list(visit.page.evaluate(script))


def test_the_clinicians_path(site: Site, visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    visit.log_in("reader", "not the right password")
    expect(page.get_by_role("alert")).to_have_text("The account or the password is not right.")
    assert visit.refusals == [f"{site.url}/workbench/login"]
    visit.refusals.clear()
    visit.complaints.clear()  # the browser's own line about status 403
    visit.log_in("reader")
    expect(page.locator("#bar .account")).to_have_text("Dr. Ada Reader")

    notes = tmp_path / "notes.txt"
    notes.write_text("not DICOM")
    page.set_input_files("#drop input[type=file]", [*films_of(site), notes])
    page.wait_for_selector(".study .strip .banner", timeout=120_000)  # it opens by itself when the draft is there
    expect(page.locator(".banner")).to_contain_text("DRAFT")
    assert not list((site.program.settings.home / "workbench-uploads").rglob("*.dcm"))
    key = str(page.locator(".report").get_attribute("data-key"))
    identity = page.locator(".strip .patient").inner_text()
    assert "PHANTOM" in identity
    assert "PHANTOM-12" in identity

    panes = page.locator(".pane:visible")
    expect(panes).to_have_count(2)
    expect(panes.nth(1).locator(".head strong")).to_have_text("Prior")
    assert (
        panes.nth(0).locator("option").inner_text() > panes.nth(1).locator("option").inner_text()
    )  # begins with its day
    sentence = page.locator('.sentence[data-lights*="f"]', has_text="heart").first
    ids = str(sentence.get_attribute("data-lights")).split()
    page.wait_for_selector(".pane:first-child .shape")
    assert page.locator(".shape.on").count() == 0
    sentence.click()
    lit = page.locator(".pane:first-child .shape.on")
    expect(lit).not_to_have_count(0)
    assert set(str(lit.first.get_attribute("data-target")).split()) & set(ids)
    expect(page.locator(".pane:first-child svg.lighting")).to_have_count(1)

    page.keyboard.press("ArrowDown")  # from sentence to sentence
    expect(sentence).to_have_attribute("aria-pressed", "false")
    expect(page.locator(".sentence.lit")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator(".shape.on, .sentence.lit")).to_have_count(0)

    page.click("[data-act=edit]")
    page.locator('[data-section="impression"] textarea').first.fill("The heart is 999 mm wide.")
    page.locator('[data-section="findings"] [data-act=add]').click()
    page.locator('[data-section="findings"] textarea').last.fill("Healed fracture of the sixth rib.")
    page.click("[data-act=check]")
    expect(page.locator('[data-section="impression"] .doubt').first).to_contain_text("check failed")
    page.locator('[data-section="impression"] textarea').first.fill("Please compare clinically.")
    page.click("[data-act=save]")
    expect(page.locator(".said:visible")).to_have_text("Saved as version 2, a draft.")
    expect(page.locator(".sentence", has_text="Healed fracture")).to_contain_text("edited by a person")
    expect(page.locator(".banner")).to_contain_text("DRAFT")

    page.click("[data-act=ask-sign]")
    expect(page.locator("dialog")).to_contain_text("Dr. Ada Reader, Sample Hospital")
    page.click("dialog [data-act=sign]")
    expect(page.locator(".banner.signed")).to_contain_text("Signed by Dr. Ada Reader, Sample Hospital")
    expect(page.locator("[data-act=ask-sign]")).to_have_count(0)
    page.click("#tab-history")
    expect(page.locator(".versions li")).to_have_count(3)
    expect(page.locator(".versions li").first).to_contain_text("final")
    expect(page.locator(".trail")).to_contain_text("study opened")
    page.click('[data-act=version][data-version="1"]')
    expect(page.locator(".banner")).to_contain_text("DRAFT")  # of what is shown
    expect(page.locator('.sentence:not([data-lights=""])')).to_have_count(0)
    page.click("#tab-report")
    page.click("[data-act=newest]")
    expect(page.locator(".banner.signed")).to_be_visible()
    actions = [each.action for each in site.program.audit.entries(study_key=key)]
    assert actions[:3] == ["version opened", "sign", "edit"]
    assert "study opened" in actions

    page.click("#tab-files")
    page.wait_for_selector('.files a[download="report-sr.dcm"]', timeout=60_000)
    with page.expect_download() as coming:
        page.click('.files a[download="report-sr.dcm"]')
    coming.value.save_as(tmp_path / "report-sr.dcm")
    report = pydicom.dcmread(tmp_path / "report-sr.dcm")
    assert (report.Modality, report.VerificationFlag) == ("SR", "VERIFIED")
    texts = [str(each.value) for each in report.iterall() if each.keyword == "TextValue"]
    assert "Healed fracture of the sixth rib." in texts
    assert site.program.audit.entries(study_key=key)[0].action == "result downloaded"

    page.click("[data-act=back]")
    expect(page.locator(f'tr[data-key="{key}"]')).to_contain_text("final")
    expect(page.locator("#arrivals .left-out")).to_contain_text("notes.txt")
    page.click("#bar button")
    page.wait_for_selector("#password")
    page.goto(f"{site.url}/workbench/")
    expect(page.locator("#password")).to_be_visible()
    assert site.program.audit.broken_at() is None
    everything = [f"{each.actor} {each.action} {dict(each.detail)}" for each in site.program.audit.entries()]
    assert not [each for each in everything if "PHANTOM" in each]


def test_a_ct_slice_by_slice(site: Site, visit: Visit) -> None:
    page = visit.page
    visit.log_in("reader")
    visit.open(site.ct)
    ready = page.locator(".pane").first
    expect(ready).to_have_attribute("data-ready", f"0/0/{NODULE_SLICE}")  # begins where the lesion is seen best
    expect(page.locator(".sentence").first).to_have_text(TRAPS)  # markup in a text is text
    page.locator(".frame").first.focus()
    for key in ("ArrowDown", "PageUp", "End"):
        page.keyboard.press(key)
    last = int(str(page.locator(".slider").first.get_attribute("max"))) - 1
    expect(ready).to_have_attribute("data-ready", f"0/0/{last}")
    page.mouse.move(400, 500)
    page.mouse.wheel(0, -100)
    expect(ready).to_have_attribute("data-ready", f"0/0/{last - 1}")
    page.locator(".slider").first.fill("8")
    expect(ready).to_have_attribute("data-ready", "0/0/7")

    lung = pixels_of(visit)
    page.get_by_role("button", name="Mediastinum").click()
    expect(page.locator(".notes").first).to_contain_text("C 40 W 400")
    soft = pixels_of(visit)
    hu = site.program.parts.archive.load(site.ct_uid).series[0].volume.voxels[7]
    row = hu[hu.shape[0] // 2].astype(float)
    for shown, (centre, width) in ((lung, (-600, 1500)), (soft, (40, 400))):  # PS3.3 C.11.2.1.2.1
        expected = ((row - (centre - 0.5)) / (width - 1) + 0.5).clip(0, 1) * 255
        assert abs(expected - shown).max() <= 0.51

    page.locator(".sentence", has_text="24 mm nodule").click()
    expect(ready).to_have_attribute("data-ready", f"0/0/{NODULE_SLICE}")
    expect(page.locator(".shape.on")).to_have_attribute("data-target", "f1")
    page.get_by_role("button", name="Coronal").click()
    expect(ready).to_have_attribute("data-ready", "0/1/" + str(hu.shape[0] // 2))
    page.get_by_role("button", name="Regions").click()
    expect(page.locator(".viewer")).to_have_class("viewer alone bare")

    page.locator(".sentence", has_text="are followed").click()
    cited = page.locator(".cited")
    expect(cited).to_contain_text("Solid nodules over 8 mm are followed.")
    link = cited.get_by_role("link")
    expect(link).to_have_attribute("href", "https://doi.org/10.1148/radiol.2017161659")
    expect(link).to_have_attribute("rel", "noopener noreferrer")
    page.locator(".sentence .reference", has_text="e1").click()
    expect(page.locator('details[data-target="e1"]')).to_have_attribute("open", "")
    page.click("#tab-findings")
    expect(page.locator('.card[data-lights="f1"]')).to_contain_text("87 %")
    expect(page.locator("#panel-report .notice")).to_have_text("The heart was not looked at.")
    expect(page.locator(".sentence.doubtful .doubt")).to_have_count(2)


def test_somebody_was_quicker(site: Site, visit: Visit) -> None:
    page = visit.page
    visit.log_in("reader")
    visit.open(site.ct)
    number = int(str(page.locator(".report").get_attribute("data-number")))
    page.click("[data-act=edit]")
    page.locator("textarea").nth(1).fill("My long thought-out sentence.")
    other = Account("other", "Dr. Other", frozenset(Scope))
    save_edit(site.program, site.ct_uid, other, number, {2: "Their sentence."})
    page.click("[data-act=save]")
    expect(page.locator(".said:visible")).to_contain_text("changed by somebody else meanwhile")
    expect(page.locator("textarea").nth(1)).to_have_value("My long thought-out sentence.")
    assert site.program.versions.newest(site.ct_uid).number == number + 1


def test_a_reader_without_the_scope_cannot_sign(site: Site, visit: Visit) -> None:
    page = visit.page
    visit.log_in("nurse")
    visit.open(site.ct)
    expect(page.locator("[data-act=ask-sign], [data-act=edit]")).to_have_count(0)
    page.click("#tab-history")
    expect(page.locator(".trail")).to_have_count(0)
    before = site.program.versions.newest(site.ct_uid).number
    for act in ("edit", "save", "sign"):
        page.evaluate("sent => window.wetread.act(sent)", {"act": act, "key": site.ct, "number": before, "lines": []})
        expect(page.locator(".said:visible")).to_have_text("Your account may neither edit nor sign reports.")
    assert site.program.versions.newest(site.ct_uid).number == before
    page.click("[data-act=back]")
    expect(page.locator("#worklist")).to_be_visible()
    expect(page.locator("#drop")).to_be_hidden()
    script = "address => fetch(address, {method: 'POST', body: new FormData()}).then(answer => answer.status)"
    assert page.evaluate(script, "/workbench/gradio_api/upload") == 403
    visit.refusals.clear()
    visit.complaints.clear()
    assert not list(site.program.settings.home.glob("workbench-uploads/**/*.dcm"))


def test_without_a_log_in_nothing_is_seen(site: Site) -> None:
    image = f"/workbench/studies/{site.ct}/series/0/0/0/pixels"
    inside = [
        image,
        f"/workbench/studies/{site.ct}/versions/1/results",
        "/workbench/own/views.js",
        "/workbench/theme.css",
        "/workbench/gradio_api/queue/data?session_hash=x",
        "/workbench/gradio_api/heartbeat/x",
    ]
    never = [
        "/workbench/gradio_api/file=/etc/passwd",
        f"/workbench/gradio_api/file={site.program.settings.home}/secret",
        "/workbench/gradio_api/info",
        "/workbench/gradio_api/openapi.json",
        "/workbench/gradio_api/proxy=http://127.0.0.1/",
        "/workbench/gradio_api/runs",
        "/workbench/config",
        "/workbench/monitoring",
        "/workbench/../workbench/gradio_api/app_id",
    ]
    call = {"fn_index": 0, "data": [], "session_hash": "x"}
    with httpx.Client(base_url=site.url) as anybody:
        assert [anybody.get(each).status_code for each in inside] == [401] * len(inside)
        assert [anybody.get(each).status_code for each in never] == [404] * len(never)
        assert anybody.post("/workbench/gradio_api/queue/join", json=call).status_code == 401
        assert anybody.post("/workbench/gradio_api/upload", files={"files": b"x"}).status_code == 401
        assert anybody.post("/workbench/gradio_api/run/predict", json=call).status_code == 404
        front = anybody.get("/", follow_redirects=True)
        assert front.url.path == "/workbench/login"
        assert "gradio" not in front.text
        words = {"name": "reader", "password": PASSWORD}
        forged = anybody.post("/workbench/login", data=words, headers={"Origin": "http://elsewhere.example"})
        assert (forged.status_code, forged.cookies) == (403, httpx.Cookies())
        assert anybody.post("/workbench/login", data=words | {"more": "x" * 100_000}).status_code == 413
        came = anybody.post("/workbench/login", data=words)
        cookie = came.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert "path=/workbench" in cookie
        assert [anybody.get(each).status_code for each in never] == [404] * len(never)
        assert anybody.get(image).status_code == 403  # an image is shown only after its study was opened, and audited
        assert "frame-ancestors 'none'" in anybody.get("/workbench/").headers["content-security-policy"]
        site.program.accounts.add(Account("leaver", "Dr. Leaver", frozenset(Scope)), PASSWORD)
        assert anybody.post("/workbench/logout").status_code == 303
        assert anybody.get("/workbench/theme.css").status_code == 401


def test_unsaved_text_outlives_the_log_in(site: Site, visit: Visit) -> None:
    page = visit.page
    visit.log_in("reader")
    visit.open(site.ct)
    page.click("[data-act=edit]")
    page.locator("textarea").nth(1).fill("Written before the log-in ended.")
    page.context.clear_cookies()
    page.click("[data-act=save]")
    expect(page.locator(".said:visible")).to_contain_text("Your log-in has ended", timeout=15_000)
    expect(page.locator("textarea").nth(1)).to_have_value("Written before the log-in ended.")
    visit.refusals.clear()
    visit.complaints.clear()
    other = page.context.new_page()
    Visit(other, site.url).log_in("reader")
    other.wait_for_selector("tr[data-key]")
    other.close()
    page.click("[data-act=save]")
    expect(page.locator(".sentence", has_text="Written before the log-in ended.")).to_be_visible()
