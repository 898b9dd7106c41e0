"""Short pages in other languages: simple sentences with fields, combined at random.

They need to be recognized as their language and to read as sentences; they are not meant to be about anything.
"""

from __future__ import annotations

from dataclasses import dataclass

from curate.quickstart.draw import Draw


@dataclass(frozen=True)
class Language:
    """Sentences of one language; `things` and `places` fill the fields. `legacy` is an encoding of before UTF-8."""

    code: str
    legacy: str
    title: str
    sentences: tuple[str, ...]
    things: tuple[str, ...]
    places: tuple[str, ...]
    space: str = " "


LANGUAGES = (
    Language(
        "de",
        "iso-8859-1",
        "Notizen aus {place}",
        (
            "In {place} regnet es seit gestern, und die meisten Leute bleiben lieber zu Hause.",
            "Am Nachmittag haben wir über {thing} gesprochen, ohne zu einem Ergebnis zu kommen.",
            "Früher war {thing} für viele Familien wichtiger als heute.",
            "Wer nach {place} reist, sollte genügend Zeit für einen Spaziergang mitbringen.",
            "Die Nachbarn erzählen gern, wie sich die Straße in den letzten Jahren verändert hat.",
            "Über {thing} wird in der Zeitung nur selten geschrieben.",
            "Außerdem möchte die Gemeinde im nächsten Frühjahr einen größeren Spielplatz bauen.",
            "Zwischen dem Bahnhof und dem Fluss liegt ein kleines Café, das jeden Morgen frisches Brot anbietet.",
            "Niemand wusste genau, weshalb {thing} plötzlich wieder so beliebt geworden ist.",
            "Im Winter fahren die Züge nach {place} manchmal mit großer Verspätung.",
            "Die Schülerinnen und Schüler haben eine Ausstellung über {thing} vorbereitet.",
            "Trotzdem lohnt sich der Weg, denn von oben sieht man das ganze Tal.",
        ),
        ("das alte Handwerk", "die Musik", "die Schule", "das Wetter", "die Brücke", "das Schwimmbad"),
        ("Oberhausen", "Lübeck", "Heidelberg", "Weimar", "Süddeutschland"),
    ),
    Language(
        "fr",
        "iso-8859-1",
        "Carnet de {place}",
        (
            "Depuis quelques jours, on parle beaucoup de {thing} dans les cafés de {place}.",
            "Les habitants de {place} se lèvent tôt pour aller au marché.",
            "Il y a longtemps que {thing} n'avait pas suscité autant d'intérêt.",
            "Après le déjeuner, nous avons marché le long de la rivière jusqu'à la vieille église.",
            "Personne ne sait vraiment pourquoi la fête a été déplacée au mois de septembre.",
            "À mon avis, {thing} mérite mieux que quelques lignes dans un journal.",
            "Les enfants préfèrent jouer dehors, même lorsqu'il fait froid.",
            "La bibliothèque organise chaque hiver une soirée consacrée à {thing}.",
            "On trouve à {place} des artisans qui travaillent encore comme autrefois.",
            "Le train du soir était en retard, mais les voyageurs sont restés de bonne humeur.",
            "Cela dit, il faudra attendre l'été prochain pour voir les travaux terminés.",
        ),
        ("la cuisine", "l'école", "la pêche", "la musique", "l'histoire du quartier"),
        ("Lyon", "Quimper", "Besançon", "Annecy", "Montpellier"),
    ),
    Language(
        "es",
        "iso-8859-1",
        "Apuntes desde {place}",
        (
            "En {place} la gente suele cenar tarde, sobre todo durante el verano.",
            "Mi abuela siempre decía que {thing} era lo más importante del pueblo.",
            "Ayer caminamos hasta el mirador y desde allí vimos todo el valle.",
            "Nadie recuerda cuándo empezó la costumbre de reunirse en la plaza los domingos.",
            "El ayuntamiento anunció que el próximo año se construirá una biblioteca nueva.",
            "Muchos jóvenes han vuelto a interesarse por {thing} en los últimos años.",
            "También hay quien piensa que {place} ya no es lo que era.",
            "Por la mañana los niños van a la escuela y las calles quedan en silencio.",
            "La exposición sobre {thing} estará abierta hasta finales de octubre.",
            "A pesar de la lluvia, los músicos tocaron hasta la medianoche.",
            "Quien visite {place} debería probar el pan que hornean junto al río.",
        ),
        ("la música", "el teatro", "la huerta", "la lana", "el fútbol", "la poesía"),
        ("Granada", "la sierra", "el norte", "la costa", "Valladolid"),
    ),
    Language(
        "it",
        "iso-8859-1",
        "Appunti da {place}",
        (
            "Da qualche settimana a {place} tutti lo ripetono: {thing} è di nuovo di moda.",
            "La domenica mattina le strade sono vuote e si sente il suono delle campane.",
            "Mio nonno diceva che {thing} insegna la pazienza più di qualsiasi libro.",
            "Quest'anno la vendemmia è cominciata prima del solito perché ha fatto molto caldo.",
            "Non è facile spiegare perché tanta gente torni ogni estate a {place}.",
            "Nella vecchia scuola c'è una mostra intitolata «{thing}», e l'ingresso è gratuito.",
            "Dopo cena ci siamo seduti in cortile e abbiamo parlato fino a tardi.",
            "Il treno per {place} parte alle sette e arriva quando il mercato è già aperto.",
            "Però bisogna dire che negli ultimi anni molte botteghe hanno chiuso.",
        ),
        ("il pane", "la pesca", "il teatro", "la falegnameria", "la musica popolare"),
        ("Perugia", "Bari", "Trieste", "Siena"),
    ),
    Language(
        "pt",
        "iso-8859-1",
        "Notas de {place}",
        (
            "Em {place} as manhãs começam devagar, com o cheiro do pão acabado de fazer.",
            "Não há quem não tenha uma história para contar sobre {thing}.",
            "Os pescadores voltam ao porto antes do nascer do sol e conversam em voz baixa.",
            "A câmara municipal prometeu que as obras da ponte estarão concluídas no outono.",
            "Durante muito tempo ninguém se interessou, mas hoje {thing} atrai muita gente.",
            "As crianças aprendem na escola a cuidar da horta e dos animais.",
            "Quando chove, ficamos em casa a ouvir música e a ler jornais antigos.",
            "Quem chega a {place} pela primeira vez costuma ficar surpreendido com o silêncio.",
            "Também se organizam passeios para conhecer melhor {thing}.",
        ),
        ("a cerâmica", "o vinho", "a dança", "a navegação", "os azulejos"),
        ("Coimbra", "Évora", "Braga", "Aveiro"),
    ),
    Language(
        "ru",
        "windows-1251",
        "Заметки: {thing}",
        (
            "Вчера вечером мы долго говорили о том, как изменился наш город.",
            "Раньше {thing} занимала в жизни людей гораздо больше места.",
            "На вокзале было холодно, и пассажиры пили горячий чай.",
            "Никто не помнит, когда именно построили старый мост через реку.",
            "Весной жители выходят в сады и сажают цветы.",
            "В местной газете снова написали, что {thing} возвращается.",
            "Дети бегали по двору, а взрослые сидели на скамейке и разговаривали.",
            "Если ехать на север, дорога становится уже, а лес гуще.",
            "Учительница рассказала, почему {thing} была так важна для деревни.",
            "Зимой поезда часто опаздывают, но к этому все привыкли.",
        ),
        ("музыка", "рыбалка", "почта", "библиотека", "железная дорога"),
        ("городе",),
    ),
    Language(
        "pl",
        "iso-8859-2",
        "W {place}",
        (
            "W {place} od rana pada śnieg i mało kto wychodzi z domu.",
            "Moja ciotka twierdzi, że {thing} uczy cierpliwości.",
            "Na rynku można kupić świeży chleb, miód i jabłka z okolicznych sadów.",
            "Nikt już nie pamięta, dlaczego zamknięto stary młyn nad rzeką.",
            "Dzieci przygotowały przedstawienie, na które przyszło pół miasteczka.",
            "W przyszłym roku gmina chce wyremontować szkołę i wybudować ścieżkę rowerową.",
            "Coraz więcej osób interesuje się tym, czym jest {thing}.",
            "Wieczorem usiedliśmy przy kominku i długo rozmawialiśmy o podróżach.",
            "Pociąg spóźnił się o godzinę, lecz nikt się nie skarżył.",
        ),
        ("ogrodnictwo", "tkactwo", "pszczelarstwo", "muzyka ludowa"),
        ("górach", "Krakowie", "Gdyni", "Zakopanem"),
    ),
    Language(
        "zh",
        "gb18030",
        "{place}随笔",
        (
            "昨天下午，我们在{place}散步，谈到了{thing}的变化。",
            "很多老人还记得以前的街道是什么样子。",
            "近年来，越来越多的年轻人开始对{thing}感兴趣。",
            "早上的市场非常热闹，到处都能闻到新鲜面包的香味。",
            "图书馆下个月将举办一个关于{thing}的展览。",
            "没有人知道那座旧桥究竟是什么时候建成的。",
            "孩子们放学以后喜欢在河边玩耍。",
            "虽然天气很冷，大家还是坐在院子里聊天。",
            "从山顶往下看，可以看到整个{place}。",
            "如果时间允许，我希望明年再来一次。",
        ),
        ("音乐", "茶文化", "园艺", "书法", "建筑"),
        ("苏州", "小镇", "山村", "海边"),
        space="",
    ),
    Language(
        "ja",
        "shift_jis",
        "{place}の日記",
        (
            "昨日は{place}まで歩いて、川のそばで弁当を食べました。",
            "最近、若い人たちの間で{thing}がまた人気になっています。",
            "祖母はいつも、{thing}には忍耐が必要だと言っていました。",
            "朝の市場はとてもにぎやかで、新鮮な野菜が並んでいます。",
            "古い橋がいつ作られたのか、誰も覚えていません。",
            "来月、図書館で{thing}についての展示が開かれる予定です。",
            "雨が降っていたので、家で音楽を聴きながら本を読みました。",
            "子どもたちは学校が終わると、公園で遊びます。",
            "山の上からは{place}がよく見えます。",
        ),
        ("茶道", "写真", "園芸", "陶芸", "将棋"),
        ("京都", "海辺", "隣の村", "長野"),
        space="",
    ),
    Language(
        "ar",
        "windows-1256",
        "مذكرات من {place}",
        (
            "تحدثنا أمس عن {thing} وكيف تغيرت حياة الناس في السنوات الأخيرة.",
            "يستيقظ سكان {place} مبكرا ويذهبون إلى السوق.",
            "كانت جدتي تقول دائما إن الصبر أهم من السرعة.",
            "لا أحد يعرف بالضبط متى بني الجسر القديم.",
            "في المساء جلسنا في الحديقة وشربنا الشاي.",
            "ستنظم المكتبة معرضا عن {thing} في الشهر القادم.",
            "يلعب الأطفال قرب النهر بعد انتهاء المدرسة.",
            "من أعلى الجبل يمكن رؤية {place} كلها.",
            "رغم المطر بقي الموسيقيون يعزفون حتى منتصف الليل.",
        ),
        ("الموسيقى", "الزراعة", "الخط العربي", "صناعة الفخار"),
        ("القرية", "المدينة القديمة", "الساحل", "الجبل"),
    ),
)


def foreign_paragraphs(language: Language, draw: Draw, count: int) -> list[str]:
    """Return `count` paragraphs of three to seven sentences, no sentence twice in a paragraph."""
    return [language.space.join(_filled(s, language, draw) for s in draw.some(language.sentences, draw.whole(3, 7))) for _ in range(count)]


def foreign_title(language: Language, draw: Draw) -> str:
    """Return a title in this language."""
    return _filled(language.title, language, draw)


def _filled(sentence: str, language: Language, draw: Draw) -> str:
    return sentence.format(thing=draw.pick(language.things), place=draw.pick(language.places))
