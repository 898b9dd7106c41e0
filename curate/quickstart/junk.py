"""Text that a crawl is full of and that nobody wants: spam, lorem ipsum, boilerplate, scrambled words.

Every function returns paragraphs; the same functions make the bad examples for the quality classifier, from other
draws. No real brand, product or address is named.
"""

from __future__ import annotations

from collections.abc import Callable

from curate.quickstart.draw import Draw

Paragraphs = list[str]

_CASINO = [
    "casino",
    "bonus",
    "slots",
    "jackpot",
    "poker",
    "roulette",
    "free",
    "spins",
    "no",
    "deposit",
    "big",
    "win",
    "instant",
    "payout",
    "live",
    "dealer",
    "vip",
    "club",
    "lucky",
    "wheel",
    "blackjack",
    "bet",
    "now",
]
_PILLS = [
    "cheap",
    "pills",
    "online",
    "pharmacy",
    "no",
    "prescription",
    "fast",
    "shipping",
    "discount",
    "buy",
    "order",
    "now",
    "best",
    "price",
    "generic",
    "tablets",
    "weight",
    "loss",
    "secret",
    "safe",
    "overnight",
]
_LOANS = [
    "payday",
    "loan",
    "instant",
    "approval",
    "bad",
    "credit",
    "ok",
    "cash",
    "today",
    "low",
    "rates",
    "refinance",
    "debt",
    "quick",
    "money",
    "no",
    "checks",
    "apply",
    "now",
    "guaranteed",
    "lender",
]
_SHOP = [
    "cheap",
    "shoes",
    "replica",
    "watches",
    "outlet",
    "sale",
    "free",
    "shipping",
    "luxury",
    "handbags",
    "wholesale",
    "sunglasses",
    "best",
    "deals",
    "coupon",
    "code",
    "buy",
    "2024",
    "new",
    "arrival",
]
_SEO = [
    "backlinks",
    "seo",
    "rank",
    "first",
    "page",
    "traffic",
    "boost",
    "followers",
    "likes",
    "views",
    "cheap",
    "package",
    "real",
    "active",
    "instant",
    "delivery",
    "social",
    "growth",
]
_LISTS = (_CASINO, _PILLS, _LOANS, _SHOP, _SEO)
_LOREM = [
    "lorem",
    "ipsum",
    "dolor",
    "sit",
    "amet",
    "consectetur",
    "adipiscing",
    "elit",
    "sed",
    "do",
    "eiusmod",
    "tempor",
    "incididunt",
    "ut",
    "labore",
    "et",
    "dolore",
    "magna",
    "aliqua",
    "enim",
    "ad",
    "minim",
    "veniam",
    "quis",
    "nostrud",
    "exercitation",
    "ullamco",
    "laboris",
    "nisi",
    "aliquip",
    "ex",
    "ea",
    "commodo",
    "consequat",
    "duis",
    "aute",
    "irure",
    "in",
    "reprehenderit",
    "voluptate",
    "velit",
    "esse",
    "cillum",
    "fugiat",
    "nulla",
    "pariatur",
]
_PITCH = (
    "CLICK HERE for the best {a} {b} of the year!!!",
    "Are you looking for {a} {b}? You have found the right place, {a} {b} with the best {c} ever.",
    "{a} {b} {c} - limited offer, act now, only today, 100% {d}!",
    "Our customers say: {a} {b} is number one for {c} and {d}. Join thousands of happy winners now.",
    "Why pay more? Get {a} {b} and {c} right now, {d} included, no questions asked $$$",
    ">>> {a} {b} <<< >>> {c} {d} <<<",
)
_BOILERPLATE: tuple[Paragraphs, ...] = (
    [
        "Log in to your account",
        "User name",
        "Password",
        "Remember me on this computer",
        "Forgot your password?",
        "Not a member yet? Sign up now",
        "Help | Contact | Imprint",
    ],
    ["JavaScript is disabled in your browser. Please enable JavaScript to use this site.", "Reload this page", "Error code: JS-1"],
    [
        "Your shopping cart is empty",
        "Continue shopping",
        "Sign in to see items you added earlier",
        "Free shipping on all orders",
        "Track my order",
        "Returns",
    ],
    [
        "Checking your browser before you continue.",
        "This process is automatic. Please allow up to five seconds.",
        "Request ID: 0000",
        "Why do I see this?",
    ],
    ["Your search returned no results", "Check the spelling", "Use fewer words", "Browse all categories", "Back to the home page"],
    [
        "Menu",
        "Home",
        "Products",
        "Services",
        "About us",
        "Team",
        "Jobs",
        "News",
        "Contact",
        "Follow us",
        "Newsletter",
        "Subscribe",
        "Terms of use",
        "Privacy policy",
    ],
    ["This domain may be for sale", "Related links", "Web hosting", "Insurance", "Cheap flights", "Online degrees", "Privacy policy"],
)
_COOKIE_POLICY = (
    "This cookie policy explains how this site uses cookies and similar techniques, and which choices you have with regard to them.",
    "Strictly necessary cookies are required for the operation of the site and cannot be switched off.",
    "Functional cookies remember choices that you make, such as your language or the region that you are in.",
    "Analytical cookies allow us to count visits and to see how visitors move around the site.",
    "You can set your browser to refuse all or some cookies, or to alert you when sites set them.",
    "If you disable or refuse cookies, please note that some parts of this site may not function properly.",
    "We may update this cookie policy from time to time. Please revisit it regularly to stay informed.",
    "By continuing to use this site you agree to our use of cookies as described in this policy and in our privacy policy.",
    "Third parties, including advertising networks, may also use cookies over which we have no control.",
    "For more information about the cookies that we use, contact us at the address given in the imprint.",
)
_SHORT = (
    "It works!",
    "Coming soon.",
    "This page has moved. Please update your bookmarks.",
    "Nothing to see here yet.",
    "Under construction, come back later.",
    "Photo 12 of 48",
    "Thank you for your message.",
    "Page intentionally left blank.",
)


def spam(draw: Draw) -> Paragraphs:
    """Return keyword lists and sales pitches, in capitals now and then."""
    words = draw.pick(_LISTS)
    found = []
    for _ in range(draw.whole(5, 12)):
        if draw.chance(0.5):
            found.append(draw.pick(_PITCH).format(**dict(zip("abcd", draw.some(words, 4), strict=True))))
        else:
            found.append(" ".join(draw.pick(words) for _ in range(draw.whole(30, 90))))
        if draw.chance(0.2):
            found[-1] = found[-1].upper()
    return found


def lorem(draw: Draw) -> Paragraphs:
    """Return pseudo-Latin, as templates are shipped with."""
    paragraphs = [" ".join(_latin(draw) for _ in range(draw.whole(3, 6))) for _ in range(draw.whole(3, 7))]
    return ["Lorem ipsum dolor sit amet, consectetur adipiscing elit. " + paragraphs[0], *paragraphs[1:]]


def _latin(draw: Draw) -> str:
    words = " ".join(draw.pick(_LOREM) for _ in range(draw.whole(6, 14)))
    return words.capitalize() + "."


def boilerplate(draw: Draw) -> Paragraphs:
    """Return a page that is nothing but its frame: a login form, an empty cart, a parked domain."""
    lines = draw.pick(_BOILERPLATE)
    return [*draw.some(lines, draw.whole(3, len(lines))), *draw.some(draw.pick(_BOILERPLATE), 2)]


def cookie_policy(draw: Draw) -> Paragraphs:
    """Return a policy: grammatical sentences that stand on a million pages."""
    return [" ".join(draw.some(_COOKIE_POLICY, draw.whole(2, 4))) for _ in range(draw.whole(3, 5))]


def keywords(draw: Draw) -> Paragraphs:
    """Return a list of tags separated by commas and bars."""
    mixed = [word for words in draw.some(_LISTS, 3) for word in words]
    return [draw.pick((", ", " | ", " ")).join(draw.some(mixed, draw.whole(20, 45))) for _ in range(draw.whole(2, 5))]


def short(draw: Draw) -> Paragraphs:
    """Return a page of a few words."""
    return [draw.pick(_SHORT)]


def scrambled(text: str, draw: Draw) -> Paragraphs:
    """Return the text's words in random order: real words, no sentence."""
    words = text.split()
    return [" ".join(draw.some(words, len(words)))]


JUNK: dict[str, Callable[[Draw], Paragraphs]] = {
    "spam": spam,
    "lorem_ipsum": lorem,
    "boilerplate": boilerplate,
    "cookie_policy": cookie_policy,
    "keyword_list": keywords,
}
