"""The report in a real browser: opened from the disk, read, used by pointer and keyboard."""

import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from browser import chromium, emulate, needed, said

from lstmjax import Bidirectional, init_network, init_params
from lstmjax import network as run
from lstmjax.inside import Gates, GateStatistics, trace
from lstmjax.report import report
from lstmjax.report.details import RunDetails
from lstmjax.training import Learning

pytestmark = pytest.mark.usefixtures("promotion")

QUESTION = f"who <i>won</i>{' in the end' * 20}"  # a name as long as a label may be
NASTY = ["</script><script>window.hit = 1</script>", "<img src=x onerror='window.hit = 2'>", "a \"b\" & 'c' `${d}`"]
LENGTHS = np.array([9, 7, 4])


@pytest.fixture(scope="module")
def browser():
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def network():
    """Five units in both directions that read letters, with larger weights than at the start."""
    params = init_network(jax.random.key(3), 4, 5, 3, bidirectional=True)
    return jax.tree.map(lambda a: 2.5 * a, params)


def other_network():
    """Three units in one direction that read the same letters."""
    return init_network(jax.random.key(11), 4, 3, 3)


def learned():
    """Statistics of the gates at two checkpoints."""
    random = np.random.default_rng(12)
    gates = [Gates(*random.random((4, 2, 5))) for _ in range(8)]
    count = np.array([20, 20])
    pair = Bidirectional(GateStatistics(*gates[:4], count), GateStatistics(*gates[4:], count))
    return Learning(np.array([0, 7]), (pair,))


@pytest.fixture(scope="module")
def words():
    return np.eye(4, dtype=np.float32)[np.random.default_rng(5).integers(0, 4, (3, 9))]


@pytest.fixture(scope="module")
def steps(network, words):
    return trace(network, words, lengths=LENGTHS, fields=("f", "c"))


@pytest.fixture(scope="module")
def page(browser, network, words, tmp_path_factory):
    """The page of it, with names that must not be read as anything but text."""
    path = tmp_path_factory.mktemp("pages") / "report.html"
    with jax.numpy_dtype_promotion("standard"):
        report(
            network,
            words,
            lengths=LENGTHS,
            labels=np.array([2, 0, 1]),
            classes=NASTY,
            features=["e", " ", "<b>", "ß"],
            names=["one", NASTY[0], "three"],
            records=[
                {"step": n, "train": {"loss": 2 - n / 9, "accuracy": n / 9}, "validation": {"loss": 1, "accuracy": 0.5}}
                for n in (2000, 4000)
            ],
            run=RunDetails(
                f"lstmjax train {NASTY[0]}", {"seed": 3}, {"model.cell": "vanilla"}, learned(), ("dropout",)
            ),
            compare={"params": other_network(), "title": NASTY[1], "run": RunDetails("", {"seed": 4}, {})},
            remembers=[(QUESTION, [(0, "reverse", 3, 0.975), (0, "forward", 1, 0.75)])],
            title=f"runs/{NASTY[0]}",
            path=path,
        )
    browser.get(path.as_uri())
    return SimpleNamespace(address=path.as_uri(), **vars(said(browser)))


@pytest.fixture
def see(browser, page):
    """Starts from the same place: the first example, both directions to choose from, nothing marked."""
    emulate(browser)
    browser.get(page.address)

    def text(selector):
        return browser.find_element("css selector", selector).text

    return text


def choose(browser, **values):
    """Chooses in the page's selects, by what they are called and the value."""
    from selenium.webdriver.support.select import Select

    for name, value in values.items():
        Select(browser.find_element("id", name)).select_by_value(value)


def field(browser, name):
    browser.find_element("css selector", f"input[name=field][value={name}]").find_element("xpath", "..").click()


def number(text):
    return float(text.replace("−", "-"))


def at(browser, step, row, steps, units):
    """Where a cell of the map is, from its middle, as Selenium counts."""
    heat = browser.find_element("id", "map")
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", heat)
    box = heat.rect
    return round(((step + 0.5) / steps - 0.5) * box["width"]), round(((row + 0.5) / units - 0.5) * box["height"])


def by_mean(values):
    """Units of [N, T, H] by their mean over the valid steps, the largest first."""
    return np.argsort(-np.concatenate([v[:n] for v, n in zip(np.asarray(values), LENGTHS, strict=True)]).mean(0))


def test_without_a_browser_ci_fails_and_others_skip(monkeypatch):
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no chromium; install the packages chromium and chromium-driver"):
        needed("chromium")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no chromium"):
        needed("chromium")


def test_it_opens_from_the_disk_without_errors_and_asks_nobody(browser, page):
    assert page.console == []
    assert [url for url in page.asked if not url.startswith(("file:", "data:"))] == []
    assert len(page.asked) == 1
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    policy = browser.execute_script("return document.querySelector('meta[http-equiv]').content")
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy


def test_the_policy_keeps_out_what_asks_the_network(browser, see):
    blocked = browser.execute_async_script(
        "const done = arguments[0];"
        "fetch('http://localhost:9/').then(() => done('let out'), (error) => done(error.name))"
    )
    assert blocked == "TypeError"
    assert any("Content Security Policy" in line for line in said(browser).console)


def test_names_are_text_wherever_they_stand(browser, see):
    assert browser.execute_script("return window.hit === undefined")
    assert browser.title == f"runs/{NASTY[0]}"
    assert see("#title") == f"runs/{NASTY[0]}"
    assert see("#question option") == QUESTION
    shown = browser.execute_script("return [...document.querySelectorAll('#prediction .name')].map(e => e.title)")
    assert sorted(shown) == sorted(NASTY)
    assert NASTY[0] in see("#examples")
    assert browser.execute_script("return document.querySelectorAll('img, i > b, #model b b').length") == 0


@pytest.mark.parametrize(("name", "direction", "step", "row"), [("f", "forward", 0, 0), ("c", "reverse", 6, 4)])
def test_the_value_under_the_pointer_is_that_of_the_array(browser, see, steps, name, direction, step, row):
    from selenium.webdriver import ActionChains

    part = Bidirectional._fields.index(direction)
    choose(browser, part=str(part))
    field(browser, name)
    values = np.asarray(getattr(steps[0][part], name))
    unit = by_mean(steps[0][part].f)[row]
    heat = browser.find_element("id", "map")
    ActionChains(browser).move_to_element_with_offset(heat, *at(browser, step, row, 9, 5)).perform()
    shown = re.match(rf"{name} = (\S+) .* · unit (\d+), layer 1, {direction} · step (\d+)$", see("#readout"))
    assert (int(shown[2]), int(shown[3])) == (unit, step)
    error = (values[:, :].max() - values.min()) / 65535 / 2
    assert abs(number(shown[1]) - values[0, step, unit]) <= error + 0.6e-4 * abs(values[0, step, unit])


def test_colours_can_be_of_each_unit_alone(browser, see, steps):
    choose(browser, part="0", sort="number", range="unit")
    assert "smallest\nlargest\nf, of each unit in this example" in see("#legend")
    f = np.asarray(steps[0].forward.f)[0, :9]
    pixels = browser.execute_script(
        "const map = document.getElementById('map'), [w, h] = [map.width, map.height];"
        "const all = map.getContext('2d').getImageData(0, 0, w, h).data;"
        "const at = (t, unit) => Math.floor((unit + 0.5) / 5 * h) * w + Math.floor((t + 0.5) / 9 * w);"
        "return Array.from({ length: 45 }, (_, n) => 4 * at(n % 9, Math.floor(n / 9)))"
        ".map((from) => Array.from(all.slice(from, from + 4)))"
    )
    light = np.array(pixels)[:, :3].sum(-1).reshape(5, 9)  # it grows from the smallest to the largest
    assert (light.argmax(1) == f.argmax(0)).all()
    assert (light.argmin(1) == f.argmin(0)).all()
    assert light.max(1).tolist() == [light.max()] * 5


def test_a_click_pins_a_unit_and_its_tracks_are_shown(browser, see, steps):
    from selenium.webdriver import ActionChains

    choose(browser, part="0", sort="number")
    heat = browser.find_element("id", "map")
    ActionChains(browser).move_to_element_with_offset(heat, *at(browser, 3, 2, 9, 5)).click().perform()
    assert see(".track[data-kind=gate] .gutter b") == see(".track[data-kind=signed] .gutter b") == "unit 2"
    values = browser.execute_script(
        "return [...document.querySelectorAll('[data-kind=gate] .value, [data-kind=signed] .value')]"
        ".map(e => [...e.children].map(c => c.innerText))"
    )
    assert [name for name, _ in values] == ["i", "f", "o", "g", "c", "h"]
    assert number(values[1][1]) == pytest.approx(float(steps[0].forward.f[0, 3, 2]), abs=2e-5)
    assert number(values[4][1]) == pytest.approx(float(steps[0].forward.c[0, 3, 2]), abs=5e-5)
    assert browser.execute_script("return document.querySelector('#scatters figure p').innerText").startswith("unit 2:")


def matches(values, span, share):
    """For every unit the share of steps in the span with a value that is on, less the share outside; either sign."""
    threshold = share * np.abs(values).max(0)
    inside = np.zeros(len(values), bool)
    inside[span[0] : span[1] + 1] = True
    scores = [(s * values >= threshold)[inside].mean(0) - (s * values >= threshold)[~inside].mean(0) for s in (1, -1)]
    return np.max(scores, axis=0)


def test_a_dragged_span_finds_the_units_that_numpy_finds(browser, see, steps):
    from selenium.webdriver import ActionChains

    field(browser, "c")
    heat = browser.find_element("id", "map")
    (x, y), (to, _) = at(browser, 2, 1, 9, 5), at(browser, 5, 1, 9, 5)
    ActionChains(browser).move_to_element_with_offset(heat, x, y).click_and_hold().move_by_offset(
        to - x, 3
    ).release().perform()
    assert "Steps 2 to 5 of 9." in see("#match")
    assert "|c| ≥ 50% of the unit's largest" in see("#match")
    browser.execute_script(
        "const s = arguments[0]; s.value = 0.3; s.dispatchEvent(new Event('input'))",
        browser.find_element("id", "threshold"),
    )
    assert "|c| ≥ 30%" in see("#match")
    found = {
        (int(b.get_attribute("data-part")), int(b.get_attribute("data-unit"))): b.find_elements("tag name", "span")[
            1
        ].text
        for b in browser.find_elements("css selector", "#match .list button")
    }
    expected = {
        (k, unit): score
        for k, part in enumerate(steps[0])
        for unit, score in enumerate(matches(np.asarray(part.c)[0], (2, 5), 0.3))
    }
    assert found.keys() == expected.keys()
    for place, score in expected.items():
        assert number(found[place]) == pytest.approx(score, abs=0.0051), place
    shown = [expected[place] for place in found]
    assert shown == sorted(shown, reverse=True)
    best = next(iter(found))
    browser.find_element("css selector", "#match .list button").click()
    assert browser.execute_script("return [...document.querySelectorAll('#match [aria-pressed=true]')].length") == 1
    assert see(".track[data-kind=gate] .gutter b") == f"unit {best[1]}"


def test_the_keyboard_does_all_that_the_pointer_does(browser, see, steps):
    from selenium.webdriver import Keys

    choose(browser, part="0", sort="number")
    heat = browser.find_element("id", "map")
    heat.send_keys(Keys.HOME, Keys.PAGE_UP, Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert browser.switch_to.active_element.get_attribute("id") == "map"
    spoken = browser.execute_script("return document.getElementById('live').textContent")
    shown = re.match(r"unit 1, step 2, f = (\S+), input “(.+)”$", spoken)
    assert number(shown[1]) == pytest.approx(float(steps[0].forward.f[0, 2, 1]), abs=2e-5)
    heat.send_keys(Keys.ENTER)
    assert see(".track[data-kind=gate] .gutter b") == "unit 1"
    heat.send_keys(Keys.SHIFT + Keys.ARROW_RIGHT + Keys.ARROW_RIGHT + Keys.NULL)
    assert "Steps 2 to 4 of 9." in see("#match")
    heat.send_keys(Keys.ESCAPE)
    assert "Steps" not in see("#match")
    outline = browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    heat.send_keys(Keys.END, Keys.ARROW_RIGHT)
    assert see("#readout").endswith("step 8")
    names = browser.execute_script(
        "return [...document.querySelectorAll('input, select, canvas[tabindex], svg')]"
        ".filter(e => e.getClientRects().length)"
        ".filter(e => !(e.labels?.length || e.getAttribute('aria-label') || e.getAttribute('aria-hidden'))).length"
    )
    assert names == 0


def test_another_example_is_shown_to_its_own_length(browser, see, steps):
    browser.find_elements("css selector", "#examples label")[2].click()
    numbers = browser.execute_script("return [...document.querySelectorAll('.track')].at(-1).innerText").split()
    assert numbers[-1] == str(LENGTHS[2] - 1)
    assert NASTY[1] in see("#prediction .true")


def test_what_a_unit_remembers_pins_it(browser, see):
    assert see("#remembers .list button[aria-pressed=true]").startswith(
        "unit 3, layer 1, reverse"
    )  # chosen at the start
    browser.find_elements("css selector", "#remembers .list button")[1].click()
    assert see("#remembers .list button[aria-pressed=true]").startswith("unit 1, layer 1, forward")
    assert browser.find_element("id", "part").get_attribute("value") == "0"


def luminance(colour):
    channels = np.array([int(c) for c in re.findall(r"\d+", colour)[:3]]) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_light_and_in_dark(browser, see, scheme):
    emulate(browser, scheme)
    colours = browser.execute_script(
        "const places = ['.facts', '#title', '.help', 'nav a', '.right, .wrong', '#match-title', '.gutter .value'];"
        "return places.map((s) => {"
        "const e = document.querySelector(s); let b = e;"
        "while (getComputedStyle(b).backgroundColor === 'rgba(0, 0, 0, 0)') b = b.parentElement;"
        "return [s, getComputedStyle(e).color, getComputedStyle(b).backgroundColor]})"
    )
    for place, ink, paper in colours:
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, place
    assert (luminance(colours[0][2]) > 0.5) == (scheme == "light")


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_what_is_written_in_a_picture_is_not_cut_off(browser, see, width):
    emulate(browser, width=width)
    cut = browser.execute_script(
        "return [...document.querySelectorAll('svg text')].filter((e) => {"
        "const a = e.getBoundingClientRect(), b = e.ownerSVGElement.getBoundingClientRect();"
        "return a.left < b.left - 1 || a.right > b.right + 1 || a.top < b.top - 1 || a.bottom > b.bottom + 1})"
        ".map((e) => e.textContent)"
    )
    assert cut == []
    over = (
        "return [...document.querySelectorAll('.names, .ends')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    )
    assert browser.execute_script(over) == 0  # nothing beside a track is written over it
    assert see(".track[data-kind=gate] .ends").split() == ["1", "0"]
    assert see(".track[data-kind=gate] .plot") == ""  # nothing is written over the lines
    assert see("#prediction .true").endswith("(label)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_the_page_uses_its_width_and_needs_no_scrolling_sideways(browser, see, width, scheme):
    emulate(browser, scheme, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    left, right = browser.execute_script(
        "const box = (e) => document.querySelector(e).getBoundingClientRect();"
        "return [box('main').left, innerWidth - box('main').right]"
    )
    assert left <= 40
    assert right <= 60  # with the scroll bar
    theme = browser.execute_script("return document.documentElement.dataset.theme")
    assert theme == scheme


def test_a_hundred_and_four_letters_are_seen_at_once(browser, see, tmp_path):
    params = init_network(jax.random.key(3), 4, 3, 2)
    letters = np.eye(4, dtype=np.float32)[np.random.default_rng(5).integers(0, 4, (1, 104))]
    report(params, letters, features=["a", "b", "X", "Y"], path=tmp_path / "long.html")
    browser.get((tmp_path / "long.html").as_uri())
    for width in (1280, 1920):
        emulate(browser, width=width)
        room, needed = browser.execute_script(
            "const e = document.getElementById('timeline'); return [e.clientWidth, e.scrollWidth]"
        )
        assert needed <= room, width


def test_colours_can_be_switched(browser, see):
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = browser.execute_script(colour)
    button = browser.find_element("id", "theme")
    assert button.text == "Dark colours"
    button.click()
    assert luminance(browser.execute_script(colour)) < 0.1 < 0.8 < luminance(light)
    assert button.text == "Light colours"
    emulate(browser, "dark")
    emulate(browser, "light")  # the reader's choice outlasts what the system says
    assert luminance(browser.execute_script(colour)) < 0.1
    button.click()
    assert browser.execute_script(colour) == light


def test_what_is_confused_is_listed_and_leads_to_its_example(browser, see, network, words):
    _, logits = run(network, words, lengths=LENGTHS)
    says, labels = np.asarray(logits).argmax(1), np.array([2, 0, 1])
    wrong = np.flatnonzero(says != labels)
    assert len(wrong) >= 2
    entries = browser.find_elements("css selector", "#wrong li")
    assert len(entries) == len(wrong)
    chances = [number(e.text.splitlines()[-1].rstrip("%")) for e in entries]
    assert chances == sorted(chances, reverse=True)
    row = wrong[-1]
    cell = browser.find_element("css selector", f".confusion [data-pair='{labels[row]},{says[row]}']")
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", cell)
    cell.click()
    assert len(browser.find_elements("css selector", "#wrong li")) == sum(
        (says == says[row]) & (labels == labels[row]) & (says != labels)
    )
    browser.find_element("css selector", "#wrong li button").click()
    chosen = browser.execute_script(
        "return [...document.querySelectorAll('#examples input')].findIndex((e) => e.checked)"
    )
    assert (says[chosen], labels[chosen]) == (says[row], labels[row])
    assert f"{len(labels) - len(wrong)} of 3 sequences are right" in see("#results-says")


def test_the_map_stays_where_it_is_under_the_pointer(browser, see):
    from selenium.webdriver import Keys

    places = set()
    for _ in range(9):
        browser.find_element("id", "map").send_keys(Keys.ARROW_RIGHT)
        places.add(browser.execute_script("return document.getElementById('map').offsetParent.offsetParent.offsetTop"))
        places.add(browser.execute_script("return document.documentElement.scrollHeight"))
    assert len(places) == 2


def test_the_chance_of_a_class_at_the_cursor_is_that_of_the_beginning(browser, see, network, words):
    from selenium.webdriver import Keys

    heat = browser.find_element("id", "map")
    heat.send_keys(Keys.HOME, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    shown = browser.execute_script(
        "return [...document.querySelectorAll('[data-kind=over-time] .value')].map(e => e.lastChild.textContent)"
    )
    chances = np.asarray(jax.nn.softmax(run(network, words[0, :3])[1]))
    assert [number(value) for value in shown] == pytest.approx(chances.tolist(), abs=1e-3)


def test_two_runs_are_beside_each_other_and_share_the_cursor(browser, see, words):
    from selenium.webdriver import ActionChains

    assert [e.text for e in browser.find_elements("css selector", ".compared h3")][1] == NASTY[1]
    assert "seed" in see("#compare-tables")
    browser.find_elements("css selector", "#examples label")[1].click()
    field(browser, "c")
    heat = browser.find_elements("css selector", ".compared canvas")[1]
    browser.execute_script("arguments[0].scrollIntoView({ block: 'center' })", heat)
    c = np.asarray(trace(other_network(), words, lengths=LENGTHS, fields=("f", "c"))[0].c)[1, : LENGTHS[1]]
    f = np.asarray(trace(other_network(), words, lengths=LENGTHS, fields=("f", "c"))[0].f)
    unit = by_mean(f)[2]
    width, height = heat.rect["width"], heat.rect["height"]
    place = round((3.5 / LENGTHS[1] - 0.5) * width), round((2.5 / 3 - 0.5) * height)
    ActionChains(browser).move_to_element_with_offset(heat, *place).perform()
    shown = re.fullmatch(r"unit (\d+), step (\d+): c = (\S+)", see("[data-readout='1']"))
    assert (int(shown[1]), int(shown[2])) == (unit, 3)
    assert number(shown[3]) == pytest.approx(c[3, unit], abs=1e-4)
    assert see("#readout").endswith("step 3")
    assert ", step 3: c = " in see("[data-readout='0']")
    logits = np.asarray(run(other_network(), words[1, : LENGTHS[1]])[1])
    assert NASTY[int(logits.argmax())] in browser.find_elements("css selector", ".compared-verdict")[1].text


def test_the_slider_shows_how_the_gates_learned(browser, see):
    choose(browser, part="1")
    slider = browser.find_element("id", "checkpoint")
    assert see("#learning output") == "this network"
    browser.execute_script("arguments[0].value = 1; arguments[0].dispatchEvent(new Event('input'))", slider)
    assert see("#learning output") == "7"
    pinned = int(see(".track[data-kind=gate] .gutter b").split()[1])
    statistics = learned().statistics[0].reverse
    low, high = (float(getattr(statistics, side).f[1, pinned]) for side in ("left", "right"))
    shown = browser.execute_script("return document.querySelectorAll('#scatters figure p')[1].innerText")
    values = re.search(r"below 0.1 at (\S+)% of the steps, above 0.9 at (\S+)%", shown)
    assert [float(values[1]), float(values[2])] == pytest.approx([100 * low, 100 * high], abs=0.06)


def test_the_command_and_what_was_chosen_are_shown(browser, see):
    assert see("#command") == f"lstmjax train {NASTY[0]}"
    assert "seed" in see("#hyperparameters")
    assert "vanilla" not in see("#hyperparameters")  # folded
    browser.find_element("css selector", "#hyperparameters summary").click()
    assert "vanilla" in see("#hyperparameters")
    assert "train (with dropout)" in see("#training")


def test_many_numbers_are_drawn_and_targets_stand_against_predictions(browser, see, tmp_path):
    random = np.random.default_rng(10)
    params, xs = init_network(jax.random.key(3), 2, 4, 7), random.normal(size=(6, 5, 2)).astype(np.float32)
    targets = random.normal(size=(6, 7)).astype(np.float32)
    report(params, xs, loss="linear", labels=targets, path=tmp_path / "seven.html")
    browser.get((tmp_path / "seven.html").as_uri())
    assert len(browser.find_elements("css selector", "#prediction circle")) == 14
    assert see("#prediction").count("\n") < 16  # drawn, not written
    choose(browser, output="4")
    titles = browser.execute_script(
        "return [...document.querySelectorAll('circle.point title')].map((e) => e.textContent)"
    )
    found = [[number(word) for word in re.findall(r"(?:target|prediction) ([^,]+)", title)] for title in titles]
    expected = np.stack([targets[:, 4], np.asarray(run(params, xs)[1])[:, 4]], axis=1)
    assert np.allclose(found, expected, atol=0.006)


def signals():
    """Five sensors in different units: a temperature, a door, and a bump that decides."""
    random = np.random.default_rng(9)
    door = (random.random((2, 20)) > 0.7).astype(np.float32)
    door[:, 4] = 1
    bump = np.zeros((2, 20), np.float32)
    bump[:, 8:11] = 0.5
    return np.stack([20 + random.normal(size=(2, 20)), door, bump, 1000 * door, -door], -1).astype(np.float32)


def test_each_signal_has_an_axis_and_reads_as_it_was(browser, see, tmp_path):
    from selenium.webdriver import Keys

    names = ["temperature of the second boiler", "door", "bump", "x", "y"]
    report(init_network(jax.random.key(3), 5, 3, 2), signals(), features=names, path=tmp_path / "s.html")
    browser.get((tmp_path / "s.html").as_uri())
    heights = browser.execute_script(
        "return [...document.querySelectorAll('[data-feature] path')].map(e => e.getBBox().height)"
    )
    assert len(heights) == 5
    assert min(heights) > 25  # each uses the height of its own axis
    browser.find_element("id", "map").send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 4)
    shown = browser.execute_script(
        "return [...document.querySelectorAll('[data-feature] .names')].map(e => e.innerText)"
    )
    assert [text.split("\n")[0] for text in shown] == names
    assert [text.split("\n")[1] for text in shown[1:]] == ["1", "0", "1000", "−1"]
    cut = "return [...document.querySelectorAll('.names b')].filter(e => e.scrollWidth > e.clientWidth + 1).length"
    assert browser.execute_script(cut) == 0
    over = browser.execute_script("return [...document.querySelectorAll('[data-feature] svg text')].length")
    assert over == 0  # numbers stand beside the lines


def test_the_cursor_starts_where_c_changes_most(browser, see, tmp_path):
    xs = np.zeros((1, 30, 1), np.float32)
    xs[0, 17] = 9
    report(init_network(jax.random.key(3), 1, 1, 2), xs, path=tmp_path / "c.html")
    browser.get((tmp_path / "c.html").as_uri())
    assert see("#readout").endswith("step 17")


def pages():
    """Other networks and data: what they are, and what must be seen."""
    random = np.random.default_rng(8)
    walk = random.normal(size=(3, 11, 2)).cumsum(1).astype(np.float32)
    deep = init_network(jax.random.key(0), 2, 3, 2)
    regression = {"loss": "linear", "per_step": True, "labels": walk[..., ::-1], "features": ["x", "y"]}
    yield deep, walk, regression, ["y0", "label", "squared error", "Targets against predictions"]
    projected = init_params(jax.random.key(1), 7, 4, cell="projection", projection_size=2)
    yield projected, random.normal(size=(6, 7)), {"cell": "projection"}, ["before the projection"]


@pytest.mark.parametrize("n", [0, 1])
def test_other_networks_are_shown_as_they_are(browser, see, tmp_path, n):
    params, xs, options, words = list(pages())[n]
    report(params, xs.astype(np.float32), path=tmp_path / "other.html", **options)
    browser.get((tmp_path / "other.html").as_uri())
    assert said(browser).console == []
    text = browser.execute_script(
        "return document.body.innerText + [...document.querySelectorAll('[title], [aria-label]')]"
        ".map(e => (e.title ?? '') + e.getAttribute('aria-label')).join()"
    )
    for word in words:
        assert word in text
    shown = browser.find_element("id", "prediction-panel").is_displayed()
    assert shown == (n == 0)  # without a head nothing is predicted


def test_a_gate_that_never_closes_has_the_longest_time_scale(browser, see, tmp_path):
    params, xs, options, _ = list(pages())[1]
    opened = params._replace(b=params.b.at[1, 2].set(60.0))
    report(opened, xs.astype(np.float32), path=tmp_path / "open.html", **options)
    browser.get((tmp_path / "open.html").as_uri())
    choose(browser, sort="time scale −1/mean log f")
    first = browser.execute_script(
        "return [...document.querySelectorAll('.rows span')].find(e => e.offsetTop < 20).innerText"
    )
    assert first == "2"
    assert re.search(r"input row \d: \S+ \S+ \S+ \S+ \S+ \S+ \S+ · unit", see("#readout"))
