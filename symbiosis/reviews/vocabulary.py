"""Words for the synthetic source: departments and their goods, styles, brands, and phrases of reviews."""

# Department -> its goods, one for each leaf category; the category is called by the plural.
GOODS = {
    "Kitchen & Dining": (
        "Cutting Board, Frying Pan, Teapot, Mixing Bowl, Chef Knife, Coffee Grinder, Baking Tray, Spice Rack, "
        "Salad Spinner, Measuring Cup, Rolling Pin, Soup Ladle"
    ),
    "Garden & Patio": (
        "Watering Can, Flower Pot, Garden Glove, Hedge Trimmer, Bird Feeder, Hose Nozzle, Compost Bin, Lawn "
        "Rake, Plant Label, Seed Tray, Wind Chime, Solar Lantern"
    ),
    "Music & Instruments": (
        "Guitar String, Drum Stick, Violin Bow, Music Stand, Guitar Pick, Tambourine, Metronome, Ukulele, "
        "Harmonica, Microphone, Piano Bench, Tuning Fork"
    ),
    "Office & School": (
        "Notebook, Fountain Pen, Desk Lamp, Stapler, Paper Tray, Sticky Note, Pencil Case, Whiteboard, Ring "
        "Binder, Letter Opener, Rubber Stamp, Calendar"
    ),
    "Sports & Fitness": (
        "Yoga Mat, Jump Rope, Dumbbell, Swim Goggle, Tennis Racket, Bike Helmet, Running Belt, Foam Roller, "
        "Boxing Glove, Climbing Rope, Hiking Pole, Water Bottle"
    ),
    "Beauty & Care": (
        "Face Cream, Hair Brush, Lip Balm, Nail File, Shower Gel, Hand Lotion, Makeup Mirror, Perfume, Eye "
        "Shadow, Shaving Soap, Bath Salt, Hair Clip"
    ),
    "Toys & Games": (
        "Puzzle, Board Game, Building Block, Plush Bear, Toy Train, Card Game, Yo-Yo, Kite, Doll House, "
        "Spinning Top, Marble Run, Magic Kit"
    ),
    "Tools & Workshop": (
        "Screwdriver, Hammer, Tape Measure, Wood Clamp, Drill Bit, Socket Set, Spirit Level, Hand Saw, Tool "
        "Box, Work Light, Sandpaper Roll, Paint Roller"
    ),
    "Pet Supplies": (
        "Dog Leash, Cat Toy, Pet Bed, Fish Tank, Bird Cage, Dog Bowl, Cat Tree, Grooming Comb, Pet Carrier, "
        "Hamster Wheel, Chew Bone, Litter Scoop"
    ),
    "Travel & Luggage": (
        "Suitcase, Neck Pillow, Passport Wallet, Packing Cube, Travel Adapter, Backpack, Luggage Tag, "
        "Toiletry Bag, Money Belt, Sleep Mask, Travel Towel, Garment Bag"
    ),
    "Home & Living": (
        "Table Lamp, Throw Pillow, Wall Clock, Picture Frame, Candle, Door Mat, Curtain, Vase, Bed Sheet, "
        "Storage Basket, Wool Blanket, Coat Hook"
    ),
    "Electronics": (
        "Headphone, Phone Case, Power Bank, Keyboard, Webcam, Card Reader, Desk Fan, Radio Alarm, Cable "
        "Organizer, Laptop Stand, Loudspeaker, Flashlight"
    ),
    "Baby & Nursery": (
        "Baby Bottle, Bib, Pacifier, Crib Mobile, Diaper Bag, Baby Blanket, Teething Ring, Night Light, Bath "
        "Toy, Stroller Hook, High Chair, Rattle"
    ),
    "Arts & Crafts": (
        "Paint Brush, Sketch Pad, Knitting Needle, Yarn Ball, Glue Gun, Clay Set, Sewing Kit, Bead Box, "
        "Easel, Color Pencil, Stencil, Embroidery Hoop"
    ),
    "Pantry & Drinks": (
        "Green Tea, Olive Oil, Honey Jar, Dark Chocolate, Coffee Bean, Hot Sauce, Granola Bar, Dried Fruit, "
        "Pasta Box, Spice Mix, Maple Syrup, Nut Butter"
    ),
    "Camping & Outdoor": (
        "Tent, Sleeping Bag, Camp Stove, Headlamp, Hammock, Cooler Box, Camp Chair, Fire Starter, Dry Bag, "
        "Pocket Knife, Water Filter, Trail Map"
    ),
}

ROOT = "Everyday Goods"  # the category that every item carries

# Style -> the word of the title, what the description says of it, what a reviewer says of it.
STYLES = (
    ("Compact", "takes up hardly any space", "so small that it fits anywhere"),
    ("Vintage", "looks as if your grandparents had owned it", "a lovely old-fashioned look"),
    ("Bamboo", "is made of fast-growing bamboo", "warm to the touch like good wood"),
    ("Heavy-Duty", "stands up to years of hard use", "sturdy, I could not break it"),
    ("Minimalist", "has clean lines and nothing superfluous", "plain and elegant"),
    ("Colorful", "comes in bright and cheerful colors", "the bright colors make me smile"),
    ("Organic", "contains nothing but natural materials", "natural, without any chemical smell"),
    ("Professional", "meets the demands of experts", "what the experts use"),
    ("Handmade", "is made by hand in small batches", "you can see the careful handwork"),
    ("Smart", "connects with the app on your phone", "the app works without a hitch"),
    ("Budget", "does its job for very little money", "unbeatable at this price"),
    ("Luxury", "is finished to the highest standard", "feels expensive in the best way"),
)

VARIANTS = (
    "Small", "Medium", "Large", "Extra Large", "Set of 2", "Set of 3", "Set of 4", "Pack of 6", "Pack of 12", "Black",
    "White", "Red", "Blue", "Green", "Gray", "Yellow", "Second Edition", "Gift Box", "Family Size", "Travel Size",
)  # fmt: skip

BRAND_STARTS = (
    "Nor", "Bel", "Kar", "Vel", "Tam", "Ost", "Fen", "Gal", "Hol", "Jun", "Lor", "Mar",
    "Pel", "Quin", "Ros", "Sel", "Tor", "Ulm", "Ver", "Wes", "Yar", "Zan", "Dor", "Cal",
)  # fmt: skip
BRAND_ENDS = (
    "vik", "mont", "dale", "berg", "ello", "ara", "wick", "ford", "stad", "ino", "ley", "mark",
    "ander", "ova", "heim", "ston", "ette", "field", "orra", "gate", "lund", "mere", "quist", "tree",
)  # fmt: skip
BRAND_TAILS = ("", " & Co", " Works", " Brothers")  # each doubles the stock of names

PRAISE = (
    "I love it.",
    "Works exactly as described.",
    "I would buy it again.",
    "Better than I had hoped.",
    "My whole family uses it.",
    "Arrived quickly and well packed.",
)
REGRET = (
    "I sent it back.",
    "Not for me.",
    "It broke within a month.",
    "I had expected more.",
    "The old one was better.",
    "Hard to recommend.",
)
HABIT = "I have a weakness for"  # a favourite category
SUMMARIES = ("Disappointed", "Not great", "It is okay", "Good", "Five Stars")  # 1 to 5 stars
